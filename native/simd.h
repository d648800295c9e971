// Portable vectors for the kernels: GCC/Clang vector extensions, no intrinsics.
//
// Each kernel file is compiled once per instruction set with its own SLYTHER_LANES and namespace;
// the functions here are `static inline` so that no two of those compilations share a symbol.
#pragma once
#include <cstdint>
#include <cstring>

#ifndef SLYTHER_LANES
#error "SLYTHER_LANES (floats per vector) must be defined"
#endif

static constexpr int W = SLYTHER_LANES;
typedef float vf __attribute__((vector_size(SLYTHER_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(SLYTHER_LANES * 4)));

static inline vf set1(float x) { return vf{} + x; }
static inline vf load(const float* p) { vf v; std::memcpy(&v, p, sizeof v); return v; }
static inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
static inline vf load_part(const float* p, int n) {  // n < W lanes, the rest zero
    float tmp[W] = {};
    std::memcpy(tmp, p, sizeof(float) * n);
    return load(tmp);
}
static inline void store_part(float* p, vf v, int n) {
    float tmp[W];
    store(tmp, v);
    std::memcpy(p, tmp, sizeof(float) * n);
}
static inline vf loadn(const float* p, int n) { return n == W ? load(p) : load_part(p, n); }
static inline void storen(float* p, vf v, int n) { if (n == W) store(p, v); else store_part(p, v, n); }
static inline float hsum(vf v) {
    float s = 0;
    for (int i = 0; i < W; i++) s += v[i];
    return s;
}
static inline vi as_int(vf v) { vi r; std::memcpy(&r, &v, sizeof r); return r; }
static inline vf as_float(vi v) { vf r; std::memcpy(&r, &v, sizeof r); return r; }
static inline vf vmax(vf a, vf b) { return a > b ? a : b; }  // one instruction in this form; of a NaN, gives b
static inline vf vmin(vf a, vf b) { return a < b ? a : b; }
// NaN where x is NaN, with no payload, so that exp2_core, which calculates with bits, keeps it; else y
static inline vf nan_or(vf x, vf y) { return x == x ? y : set1(__builtin_nanf("")); }

// 2^x for x in [-126, 126], clamped there. Rounding to the nearest integer by the magic number
// 1.5 * 2^23; degree-5 polynomial on [-1/2, 1/2]; relative error 9.2e-8
// before rounding (least squares reweighted towards minimax over 4000 nodes, measured there).
// NaN stays NaN if the lowest nine bits of its payload are zero, as those of every arithmetic NaN are.
static inline vf exp2_core(vf x) {
    const vf magic = set1(12582912.0f);
    const vf t = x + magic;
    const vf f = x - (t - magic);
    const vi n = as_int(t) << 23;  // the low bits of the mantissa hold the integer
    vf p = set1(1.326472405e-3f);
    p = p * f + set1(9.671512865e-3f);
    p = p * f + set1(5.550733754e-2f);
    p = p * f + set1(2.402224208e-1f);
    p = p * f + set1(6.931469776e-1f);
    p = p * f + set1(1.0f);
    return as_float(as_int(p) + n);
}
// exp2 of a non-positive argument, as the decay exp(dt * A) always is. Below -126 it is 2^-126, which is
// nothing beside any state.
static inline vf exp2_neg(vf x) { return exp2_core(vmax(set1(-126.0f), x)); }
static inline vf vexp(vf x) {
    return nan_or(x, exp2_core(vmin(set1(126.0f), vmax(set1(-126.0f), x * set1(1.44269504088896341f)))));
}
static inline vf sigmoid(vf x) { return set1(1.0f) / (set1(1.0f) + vexp(-x)); }

// log(1 + v) for v in [0, 1] as 2 atanh(v / (2 + v)), which keeps full relative precision for tiny v. Degree-4
// polynomial for atanh(s) / s in s^2 on [0, 1/9]; relative error 4e-9 before rounding (fitted as above).
static inline vf log1p01(vf v) {
    const vf s = v / (set1(2.0f) + v), q = s * s;
    vf p = set1(1.408916738e-1f);
    p = p * q + set1(1.398030160e-1f);
    p = p * q + set1(2.001245511e-1f);
    p = p * q + set1(3.333315734e-1f);
    p = p * q + set1(1.0f);
    return (s + s) * p;
}
static inline vf softplus(vf x) {
    const vf ax = vmax(x, -x);
    return vmax(vf{}, x) + log1p01(vexp(-ax));
}
