"""Triton kernels of the selective scan and of the depthwise convolution; launched by ``triton_scan``.

A program holds one tile of the state in registers, [states, BD channels], channels innermost, so that rows
of the sequences are read whole. Names in capitals are pointers or compile-time constants; an absent input is
None. Sequences are [batch, length, channels] with strides ``*_b`` (batch) and ``*_t`` (row) and a channel
stride of 1. ``s`` counts steps in walking order; the row of step s is ``length - 1 - s`` if REVERSE. Internal
states are [.., states, channels], so that their loads and stores are contiguous.

Two names must not stand for one value before a loop that moves only one of them on (``before = h``, then
``before = h`` and a new ``h`` inside): Triton 3.6 takes ``before`` for unchanged. The interpreter does not.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
NO_LENGTH = ["length", "chunk", "chunks", "marks"]  # one compilation serves every length


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def softplus(x):
    # log(1 + v) = 2 atanh(v / (2 + v)): precise for a small v too, which the hardware's logarithm is not
    v = tl.exp(-tl.abs(x))
    s = v / (2.0 + v)
    q = s * s
    p = 1 / 13
    p = p * q + 1 / 11
    p = p * q + 1 / 9
    p = p * q + 1 / 7
    p = p * q + 1 / 5
    p = p * q + 1 / 3
    p = p * q + 1.0
    return tl.maximum(x, 0.0) + 2.0 * s * p


@triton.jit
def row_of(s, length, REVERSE: tl.constexpr):
    if REVERSE:
        row = length - 1 - s
    else:
        row = s
    return row.to(tl.int64)


@triton.jit
def channel_vector(P, c, mask):
    """A per-channel parameter, zeros if absent."""
    if P is not None:
        return tl.load(P + c, mask=mask, other=0.0).to(tl.float32)
    else:
        return tl.zeros_like(c).to(tl.float32)


@triton.jit(do_not_specialize=NO_LENGTH)
def local_forward(
    U, DELTA, A, B, BIAS, START, DT, length, dim, chunk, chunks,
    u_b, u_t, delta_b, delta_t, B_b, B_t,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Pass 1: each chunk but the last from a zero state: final state (into START of the next), sum of dt."""
    part, item = tl.program_id(1), tl.program_id(2).to(tl.int64)
    c, n = tl.program_id(0) * BD + tl.arange(0, BD), tl.arange(0, NP)
    mc, mn = c < dim, n < N
    mask, tile = mn[:, None] & mc[None, :], n[:, None] * dim + c[None, :]
    a2 = tl.load(A + c[None, :] * N + n[:, None], mask=mask, other=0.0) * LOG2E
    bias = channel_vector(BIAS, c, mc)
    h = tl.zeros([NP, BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    for s in range(part * chunk, part * chunk + chunk):
        row = row_of(s, length, REVERSE)
        dt = tl.load(DELTA + item * delta_b + row * delta_t + c, mask=mc, other=0.0).to(tl.float32) + bias
        if SOFTPLUS:
            dt = softplus(dt)
        x = tl.load(U + item * u_b + row * u_t + c, mask=mc, other=0.0).to(tl.float32)
        b = tl.load(B + item * B_b + row * B_t + n, mask=mn, other=0.0).to(tl.float32)
        h = h * tl.exp2(dt[None, :] * a2) + (dt * x)[None, :] * b[:, None]
        total += dt
    tl.store(START + (item * chunks + part + 1) * N * dim + tile, h, mask=mask)
    tl.store(DT + (item * chunks + part) * dim + c, total, mask=mc)


@triton.jit(do_not_specialize=NO_LENGTH)
def local_backward(
    DELTA, A, C, BIAS, Z, DY, END, DT, length, dim, chunk, chunks,
    delta_b, delta_t, C_b, C_t, z_b, z_t, dy_b, dy_t,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Pass 1 of the backward scan: what each chunk but the first hands to the one before it, from nothing."""
    part, item = tl.program_id(1) + 1, tl.program_id(2).to(tl.int64)
    c, n = tl.program_id(0) * BD + tl.arange(0, BD), tl.arange(0, NP)
    mc, mn = c < dim, n < N
    mask, tile = mn[:, None] & mc[None, :], n[:, None] * dim + c[None, :]
    a2 = tl.load(A + c[None, :] * N + n[:, None], mask=mask, other=0.0) * LOG2E
    bias = channel_vector(BIAS, c, mc)
    r = tl.zeros([NP, BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    first, last = part * chunk, tl.minimum(part * chunk + chunk, length) - 1
    for i in range(0, last - first + 1):
        row = row_of(last - i, length, REVERSE)
        dt = tl.load(DELTA + item * delta_b + row * delta_t + c, mask=mc, other=0.0).to(tl.float32) + bias
        if SOFTPLUS:
            dt = softplus(dt)
        g = tl.load(DY + item * dy_b + row * dy_t + c, mask=mc, other=0.0).to(tl.float32)
        if Z is not None:
            z = tl.load(Z + item * z_b + row * z_t + c, mask=mc, other=0.0).to(tl.float32)
            g *= z * sigmoid(z)
        cc = tl.load(C + item * C_b + row * C_t + n, mask=mn, other=0.0).to(tl.float32)
        r = (r + g[None, :] * cc[:, None]) * tl.exp2(dt[None, :] * a2)
        total += dt
    tl.store(END + (item * chunks + part - 1) * N * dim + tile, r, mask=mask)
    tl.store(DT + (item * chunks + part) * dim + c, total, mask=mc)


@triton.jit(do_not_specialize=["chunks"])
def carry(
    STATE, DT, A, dim, chunks,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Pass 2: over the chunks in order, in place: local results become the true states at the borders."""
    item = tl.program_id(1).to(tl.int64)
    c, n = tl.program_id(0) * BD + tl.arange(0, BD), tl.arange(0, NP)
    mc = c < dim
    mask, tile = (n < N)[:, None] & mc[None, :], n[:, None] * dim + c[None, :]
    a2 = tl.load(A + c[None, :] * N + n[:, None], mask=mask, other=0.0) * LOG2E
    state = tl.zeros([NP, BD], tl.float32)
    for i in range(0, chunks):
        if BACKWARD:
            k = chunks - 1 - i
            before = k + 1
        else:
            k = i
            before = k - 1
        at = STATE + (item * chunks + k) * N * dim + tile
        local = tl.load(at, mask=mask, other=0.0)
        total = tl.load(DT + (item * chunks + before) * dim + c, mask=mc & (i > 0), other=0.0)
        state = state * tl.exp2(total[None, :] * a2) + local
        tl.store(at, state, mask=mask)


@triton.jit(do_not_specialize=NO_LENGTH)
def output_forward(
    U, DELTA, A, B, C, D, Z, BIAS, START, Y, LAST, MARKS, length, dim, chunk, chunks, marks,
    u_b, u_t, delta_b, delta_t, B_b, B_t, C_b, C_t, z_b, z_t,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Pass 3: outputs of each chunk from its true first state; MARKS keeps the state every TILE steps."""
    part, item = tl.program_id(1), tl.program_id(2).to(tl.int64)
    c, n = tl.program_id(0) * BD + tl.arange(0, BD), tl.arange(0, NP)
    mc, mn = c < dim, n < N
    mask, tile = mn[:, None] & mc[None, :], n[:, None] * dim + c[None, :]
    a2 = tl.load(A + c[None, :] * N + n[:, None], mask=mask, other=0.0) * LOG2E
    bias, skip = channel_vector(BIAS, c, mc), channel_vector(D, c, mc)
    h = tl.load(START + (item * chunks + part) * N * dim + tile, mask=mask, other=0.0)
    end = tl.minimum(part * chunk + chunk, length)
    for s0 in range(part * chunk, end, TILE):
        if MARKS is not None:
            tl.store(MARKS + (item * marks + s0 // TILE) * N * dim + tile, h, mask=mask)
        for s in range(s0, tl.minimum(s0 + TILE, end)):
            row = row_of(s, length, REVERSE)
            dt = tl.load(DELTA + item * delta_b + row * delta_t + c, mask=mc, other=0.0).to(tl.float32) + bias
            if SOFTPLUS:
                dt = softplus(dt)
            x = tl.load(U + item * u_b + row * u_t + c, mask=mc, other=0.0).to(tl.float32)
            b = tl.load(B + item * B_b + row * B_t + n, mask=mn, other=0.0).to(tl.float32)
            cc = tl.load(C + item * C_b + row * C_t + n, mask=mn, other=0.0).to(tl.float32)
            h = h * tl.exp2(dt[None, :] * a2) + (dt * x)[None, :] * b[:, None]
            y = tl.sum(h * cc[:, None], 0) + skip * x
            if Z is not None:
                z = tl.load(Z + item * z_b + row * z_t + c, mask=mc, other=0.0).to(tl.float32)
                y *= z * sigmoid(z)
            tl.store(Y + (item * length + row) * dim + c, y, mask=mc)
    if part == chunks - 1:
        tl.store(LAST + item * dim * N + c[None, :] * N + n[:, None], h, mask=mask)


@triton.jit(do_not_specialize=NO_LENGTH)
def output_backward(
    U, DELTA, A, B, C, D, Z, BIAS, MARKS, END, DY, SCRATCH,
    DU, DDELTA, DA, DB, DC, DD, DZ, DBIAS, DH0, length, dim, chunk, chunks, marks,
    u_b, u_t, delta_b, delta_t, B_b, B_t, C_b, C_t, z_b, z_t, dy_b, dy_t,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Pass 3 of the backward scan: every gradient of one chunk.

    Tile by tile from the chunk's end: the states of a tile are recomputed from its mark into SCRATCH (which
    stays in cache), then walked backwards. DB and DC are partial sums, one for each channel block.
    """
    block, part, item = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    c, n = block * BD + tl.arange(0, BD), tl.arange(0, NP)
    mc, mn = c < dim, n < N
    mask, tile = mn[:, None] & mc[None, :], n[:, None] * dim + c[None, :]
    a = tl.load(A + c[None, :] * N + n[:, None], mask=mask, other=0.0)
    a2 = a * LOG2E
    bias, skip = channel_vector(BIAS, c, mc), channel_vector(D, c, mc)
    slot = SCRATCH + (item * chunks + part) * TILE * N * dim + tile
    r = tl.load(END + (item * chunks + part) * N * dim + tile, mask=mask, other=0.0)
    dA, dD, dbias = tl.zeros([NP, BD], tl.float32), tl.zeros([BD], tl.float32), tl.zeros([BD], tl.float32)
    first, end = part * chunk, tl.minimum(part * chunk + chunk, length)
    tiles = (end - first + TILE - 1) // TILE
    for k in range(0, tiles):
        s0 = first + (tiles - 1 - k) * TILE
        steps = tl.minimum(TILE, end - s0)
        h = tl.load(MARKS + (item * marks + s0 // TILE) * N * dim + tile, mask=mask, other=0.0)
        tl.debug_barrier()  # the tile before has been read by every thread
        for i in range(0, steps):
            tl.store(slot + i * N * dim, h, mask=mask)
            row = row_of(s0 + i, length, REVERSE)
            dt = tl.load(DELTA + item * delta_b + row * delta_t + c, mask=mc, other=0.0).to(tl.float32) + bias
            if SOFTPLUS:
                dt = softplus(dt)
            x = tl.load(U + item * u_b + row * u_t + c, mask=mc, other=0.0).to(tl.float32)
            b = tl.load(B + item * B_b + row * B_t + n, mask=mn, other=0.0).to(tl.float32)
            h = h * tl.exp2(dt[None, :] * a2) + (dt * x)[None, :] * b[:, None]
        tl.debug_barrier()
        for i in range(0, steps):
            row = row_of(s0 + steps - 1 - i, length, REVERSE)
            raw = tl.load(DELTA + item * delta_b + row * delta_t + c, mask=mc, other=0.0).to(tl.float32)
            raw += bias
            dt = raw
            if SOFTPLUS:
                dt = softplus(raw)
            x = tl.load(U + item * u_b + row * u_t + c, mask=mc, other=0.0).to(tl.float32)
            b = tl.load(B + item * B_b + row * B_t + n, mask=mn, other=0.0).to(tl.float32)
            cc = tl.load(C + item * C_b + row * C_t + n, mask=mn, other=0.0).to(tl.float32)
            g = tl.load(DY + item * dy_b + row * dy_t + c, mask=mc, other=0.0).to(tl.float32)
            out = (item * length + row) * dim + c
            if Z is not None:
                z = tl.load(Z + item * z_b + row * z_t + c, mask=mc, other=0.0).to(tl.float32)
                sg = sigmoid(z)
                y = tl.sum(h * cc[:, None], 0) + skip * x
                tl.store(DZ + out, g * y * sg * (1.0 + z * (1.0 - sg)), mask=mc)
                g *= z * sg
            r += g[None, :] * cc[:, None]
            sums = ((block * tl.num_programs(2) + item) * length + row) * N + n
            tl.store(DC + sums, tl.sum(g[None, :] * h, 1), mask=mn)
            tl.store(DB + sums, tl.sum(r * (dt * x)[None, :], 1), mask=mn)
            rb = tl.sum(r * b[:, None], 0)
            h = tl.load(slot + (steps - 1 - i) * N * dim, mask=mask, other=0.0)  # the state before this step
            r *= tl.exp2(dt[None, :] * a2)
            q = r * h
            dA += q * dt[None, :]
            d_dt = tl.sum(q * a, 0) + rb * x
            if SOFTPLUS:
                d_dt *= sigmoid(raw)
            dbias += d_dt
            dD += g * x
            tl.store(DU + out, rb * dt + g * skip, mask=mc)
            tl.store(DDELTA + out, d_dt, mask=mc)
    at = item * chunks + part
    tl.store(DA + at * N * dim + tile, dA, mask=mask)
    tl.store(DD + at * dim + c, dD, mask=mc)
    tl.store(DBIAS + at * dim + c, dbias, mask=mc)
    if part == 0:
        tl.store(DH0 + item * dim * N + c[None, :] * N + n[:, None], r, mask=mask)


@triton.jit
def conv_rows(X, PAST, s, c, item, mc, length, dim, x_b, x_t, K: tl.constexpr, REVERSE: tl.constexpr):
    """Rows of steps ``s`` as [BT, BD]; those before the first are in PAST [batch, K - 1, dim], or zero."""
    inside = (s >= 0) & (s < length)
    row = row_of(s, length, REVERSE)
    at = X + item * x_b + row[:, None] * x_t + c[None, :]
    x = tl.load(at, mask=inside[:, None] & mc[None, :], other=0.0).to(tl.float32)
    if PAST is not None:
        at = PAST + (item * (K - 1) + s[:, None] + K - 1) * dim + c[None, :]
        old = (s < 0) & (s >= 1 - K)
        x += tl.load(at, mask=old[:, None] & mc[None, :], other=0.0).to(tl.float32)
    return x


@triton.jit(do_not_specialize=["length"])
def conv_forward(
    X, WEIGHT, BIAS, PAST, Y, length, dim, x_b, x_t,
    K: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    item = tl.program_id(2).to(tl.int64)
    c, s = tl.program_id(0) * BD + tl.arange(0, BD), tl.program_id(1) * BT + tl.arange(0, BT)
    mc = c < dim
    y = tl.zeros([BT, BD], tl.float32) + channel_vector(BIAS, c, mc)[None, :]
    for j in tl.static_range(K):
        w = tl.load(WEIGHT + c * K + j, mask=mc, other=0.0)
        x = conv_rows(X, PAST, s - (K - 1) + j, c, item, mc, length, dim, x_b, x_t, K, REVERSE)
        y += w[None, :] * x
    if SILU:
        y *= sigmoid(y)
    at = (item * length + row_of(s, length, REVERSE)[:, None]) * dim + c[None, :]
    tl.store(Y + at, y, mask=(s < length)[:, None] & mc[None, :])


@triton.jit(do_not_specialize=["length"])
def conv_backward(
    X, WEIGHT, BIAS, PAST, DY, DPRE, DW, length, dim, x_b, x_t, dy_b, dy_t,
    K: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Gradient before the SiLU (DPRE); partial sums for weight and bias, DW [batch, time blocks, K + 1, dim].

    The gradient of x is a convolution of DPRE in the other direction: ``conv_forward`` again.
    """
    part, item = tl.program_id(1), tl.program_id(2).to(tl.int64)
    c, s = tl.program_id(0) * BD + tl.arange(0, BD), part * BT + tl.arange(0, BT)
    mc = c < dim
    inside = (s < length)[:, None] & mc[None, :]
    row = row_of(s, length, REVERSE)[:, None]
    g = tl.load(DY + item * dy_b + row * dy_t + c[None, :], mask=inside, other=0.0).to(tl.float32)
    if SILU:
        y = tl.zeros([BT, BD], tl.float32) + channel_vector(BIAS, c, mc)[None, :]
        for j in tl.static_range(K):
            w = tl.load(WEIGHT + c * K + j, mask=mc, other=0.0)
            x = conv_rows(X, PAST, s - (K - 1) + j, c, item, mc, length, dim, x_b, x_t, K, REVERSE)
            y += w[None, :] * x
        sg = sigmoid(y)
        g *= sg * (1.0 + y * (1.0 - sg))
    tl.store(DPRE + (item * length + row) * dim + c[None, :], g, mask=inside)
    out = DW + (item * tl.num_programs(1) + part) * (K + 1) * dim + c
    for j in tl.static_range(K):
        x = conv_rows(X, PAST, s - (K - 1) + j, c, item, mc, length, dim, x_b, x_t, K, REVERSE)
        tl.store(out + j * dim, tl.sum(g * x, 0), mask=mc)
    tl.store(out + K * dim, tl.sum(g, 0), mask=mc)
