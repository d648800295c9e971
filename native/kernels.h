// What every instruction set's build of the kernels offers, and the arguments that they take.
// All tensors are float32, time-major; strides count floats; the channel stride is 1.
#pragma once
#include <cstdint>

namespace slyther {

constexpr int TILE = 32;  // steps between two state checkpoints; the backward pass recomputes one tile

struct Seq {  // [batch, length, channels]; p may be null for an absent input
    const float* p = nullptr;
    int64_t batch = 0, row = 0;
};

struct ScanArgs {
    int64_t batch, length, dim, states;
    Seq u, delta, B, C, z;
    const float *A, *D, *bias, *h0;  // A [dim, states]; D, bias [dim] or null; h0 [batch, dim, states] or null
    bool softplus, reverse;
    // forward: outputs; backward: `ckpt` is the input that the forward pass wrote
    float *y, *h_last, *ckpt;  // y [batch, length, dim]; ckpt [batch, ceil(length/TILE), dim, states] or null
    // backward
    Seq dy;
    const float* dh_last;  // [batch, dim, states] or null
    float *du, *ddelta, *dz;  // [batch, length, dim]; dz null when z is
    float *dB, *dC;           // [parts, batch, length, states], summed over parts by the caller
    float *dA, *dD, *dbias;   // [batch, dim, states], [batch, dim], summed over batch by the caller
    float* dh0;               // [batch, dim, states]
};

struct ConvArgs {
    int64_t batch, length, dim, width;
    Seq x;
    const float *weight, *bias, *h0;  // weight [dim, width]; h0 [batch, width - 1, dim] in walking order, or null
    bool reverse, silu;
    float* y;
    Seq dy;
    float *dx, *dw, *db, *dh0;  // dx [batch, length, dim]; dw [batch, dim, width]; db [batch, dim]
};

// One task: batch item `b`, channels [c0, c1); `part` chooses the dB/dC buffer. c0 is a multiple of 16.
struct Kernels {
    const char* name;
    int lanes;
    void (*scan_forward)(const ScanArgs&, int64_t b, int64_t c0, int64_t c1);
    void (*scan_backward)(const ScanArgs&, int64_t b, int64_t c0, int64_t c1, int64_t part);
    void (*conv_forward)(const ConvArgs&, int64_t b, int64_t c0, int64_t c1);
    void (*conv_backward)(const ConvArgs&, int64_t b, int64_t c0, int64_t c1);
};

const Kernels* kernels_base();
const Kernels* kernels_avx2();    // null unless built for x86-64
const Kernels* kernels_avx512();  // null unless built for x86-64

}  // namespace slyther
