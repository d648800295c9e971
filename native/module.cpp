// The Python side: checks shapes, cuts the work into tasks, runs them without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;
using namespace slyther;

template <int ND> using Array = nb::ndarray<float, nb::ndim<ND>, nb::device::cpu>;
template <int ND> using Maybe = std::optional<Array<ND>>;

static std::vector<const Kernels*> available() {
    std::vector<const Kernels*> all;
#if defined(SLYTHER_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) all.push_back(kernels_avx512());
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(kernels_avx2());
#endif
    all.push_back(kernels_base());
    return all;
}
static const Kernels* chosen = available().front();

static void require(bool ok, const char* what) {
    if (!ok) throw std::invalid_argument(what);
}
static Seq seq(const Array<3>& t, int64_t B, int64_t L, int64_t C, const char* what) {
    require((int64_t)t.shape(0) == B && (int64_t)t.shape(1) == L && (int64_t)t.shape(2) == C, what);
    require(C <= 1 || t.size() == 0 || t.stride(2) == 1, "the channel stride must be 1");
    return Seq{t.data(), t.stride(0), t.stride(1)};
}
static Seq seq(const Maybe<3>& t, int64_t B, int64_t L, int64_t C, const char* what) {
    return t ? seq(*t, B, L, C, what) : Seq{};
}
template <typename T> static float* dense(T& t, std::initializer_list<int64_t> shape, const char* what) {
    int64_t expect = 1;
    for (int i = (int)shape.size() - 1; i >= 0; i--) {
        require((int64_t)t.shape(i) == shape.begin()[i], what);
        require(t.shape(i) <= 1 || t.size() == 0 || t.stride(i) == expect, "tensor must be contiguous");
        expect *= t.shape(i);
    }
    return t.data();
}
template <typename T> static float* dense(std::optional<T>& t, std::initializer_list<int64_t> shape, const char* what) {
    return t ? dense(*t, shape, what) : nullptr;
}

// Decaying states reach denormal numbers, which some processors compute a hundred times slower: flush them to zero here.
struct FlushDenormals {
#if defined(SLYTHER_X86)
    unsigned before = __builtin_ia32_stmxcsr();
    FlushDenormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(before); }
#endif
};

// Runs task(i) for i < n on up to `threads` threads. Threads are made per call: a call is milliseconds of work.
template <typename F> static void parallel(int64_t n, int threads, F task) {
    nb::gil_scoped_release release;
    const int extra = (int)std::min<int64_t>(threads, n) - 1;
    std::atomic<int64_t> next{0};
    auto work = [&] { FlushDenormals flush; for (int64_t i; (i = next++) < n;) task(i); };
    std::vector<std::thread> pool;
    try {
        for (int i = 0; i < extra; i++) pool.emplace_back(work);
    } catch (const std::system_error&) {  // no more threads here: those that there are do it
    }
    work();
    for (auto& t : pool) t.join();
}

constexpr int64_t MOST = int64_t(1) << 31;  // of batch items and channels

// Channel parts of a multiple of 16 lanes, so that the cut does not change any vector's contents; none of no channels.
struct Parts {
    int64_t dim, size, count;
    Parts(int64_t dim, int64_t wanted) : dim(dim) {
        wanted = std::max<int64_t>(1, std::min(wanted, (dim + 15) / 16));
        size = std::max<int64_t>(16, ((dim + wanted - 1) / wanted + 15) / 16 * 16);
        count = (dim + size - 1) / size;
    }
    int64_t begin(int64_t i) const { return i * size; }
    int64_t end(int64_t i) const { return std::min(dim, (i + 1) * size); }
};
static int64_t parts_wanted(int64_t batch, int threads) { return (threads + batch - 1) / std::max<int64_t>(1, batch); }

static ScanArgs scan_args(Array<3>& u, Array<3>& delta, Array<2>& A, Array<3>& B, Array<3>& C, Maybe<1>& D, Maybe<3>& z,
                          Maybe<1>& bias, Maybe<3>& h0, bool softplus, bool reverse) {
    ScanArgs a{};
    a.batch = u.shape(0), a.length = u.shape(1), a.dim = u.shape(2), a.states = A.shape(1);
    a.u = seq(u, a.batch, a.length, a.dim, "u");
    a.delta = seq(delta, a.batch, a.length, a.dim, "delta must have the shape of u");
    a.B = seq(B, a.batch, a.length, a.states, "B must be [batch, length, states]");
    a.C = seq(C, a.batch, a.length, a.states, "C must be [batch, length, states]");
    a.z = seq(z, a.batch, a.length, a.dim, "z must have the shape of u");
    a.A = dense(A, {a.dim, a.states}, "A must be [channels, states]");
    a.D = dense(D, {a.dim}, "D must be [channels]");
    a.bias = dense(bias, {a.dim}, "delta_bias must be [channels]");
    a.h0 = dense(h0, {a.batch, a.dim, a.states}, "initial_state must be [batch, channels, states]");
    a.softplus = softplus, a.reverse = reverse;
    return a;
}

void bind_beam(nb::module_& m);     // beam.cpp
void bind_lexicon(nb::module_& m);  // lexicon.cpp

NB_MODULE(_native, m) {
    m.doc() = "Compiled CPU kernels: selective scan and depthwise causal convolution, forward and backward; prefix beam search.";
    bind_beam(m);
    bind_lexicon(m);
    m.attr("TILE") = TILE;
    m.def("isa", [] { return std::string(chosen->name); }, "The instruction set in use.");
    m.def("isas", [] {
        std::vector<std::string> names;
        for (auto k : available()) names.emplace_back(k->name);
        return names;
    }, "Every instruction set that this machine can run, best first.");
    m.def("use_isa", [](const std::string& name) {
        for (auto k : available())
            if (name == k->name) { chosen = k; return; }
        throw std::invalid_argument("this machine or build has no instruction set " + name);
    });
    m.def("grad_parts", [](int64_t batch, int64_t dim, int threads) {
        require(batch >= 0 && dim >= 0 && batch <= MOST && dim <= MOST, "batch and channels must be from 0 to 2^31");
        return Parts(dim, parts_wanted(batch, threads)).count;
    },
          "How many partial sums of dB and dC scan_backward writes.");

    m.def("scan_forward", [](Array<3> u, Array<3> delta, Array<2> A, Array<3> B, Array<3> C, Maybe<1> D, Maybe<3> z,
                             Maybe<1> bias, Maybe<3> h0, bool softplus, bool reverse, Array<3> y, Array<3> h_last,
                             Maybe<4> ckpt, int threads) {
        ScanArgs a = scan_args(u, delta, A, B, C, D, z, bias, h0, softplus, reverse);
        a.y = dense(y, {a.batch, a.length, a.dim}, "y");
        a.h_last = dense(h_last, {a.batch, a.dim, a.states}, "h_last");
        a.ckpt = dense(ckpt, {a.batch, (a.length + TILE - 1) / TILE, a.dim, a.states}, "ckpt");
        const Parts parts(a.dim, parts_wanted(a.batch, threads));
        parallel(a.batch * parts.count, threads, [&](int64_t i) {
            const int64_t p = i % parts.count;
            chosen->scan_forward(a, i / parts.count, parts.begin(p), parts.end(p));
        });
    }, nb::arg("u"), nb::arg("delta"), nb::arg("A"), nb::arg("B"), nb::arg("C"), nb::arg("D").none(), nb::arg("z").none(),
       nb::arg("delta_bias").none(), nb::arg("h0").none(), nb::arg("softplus"), nb::arg("reverse"), nb::arg("y"),
       nb::arg("h_last"), nb::arg("ckpt").none(), nb::arg("threads"));

    m.def("scan_backward", [](Array<3> u, Array<3> delta, Array<2> A, Array<3> B, Array<3> C, Maybe<1> D, Maybe<3> z,
                              Maybe<1> bias, bool softplus, bool reverse, Array<4> ckpt, Array<3> dy, Maybe<3> dh_last,
                              Array<3> du, Array<3> ddelta, Array<4> dB, Array<4> dC, Array<3> dA, Array<2> dD, Maybe<3> dz,
                              Array<2> dbias, Array<3> dh0, int threads) {
        Maybe<3> none;
        ScanArgs a = scan_args(u, delta, A, B, C, D, z, bias, none, softplus, reverse);
        const Parts parts(a.dim, parts_wanted(a.batch, threads));
        a.ckpt = dense(ckpt, {a.batch, (a.length + TILE - 1) / TILE, a.dim, a.states}, "ckpt");
        a.dy = seq(dy, a.batch, a.length, a.dim, "dy must have the shape of u");
        a.dh_last = dense(dh_last, {a.batch, a.dim, a.states}, "dh_last");
        a.du = dense(du, {a.batch, a.length, a.dim}, "du");
        a.ddelta = dense(ddelta, {a.batch, a.length, a.dim}, "ddelta");
        a.dB = dense(dB, {parts.count, a.batch, a.length, a.states}, "dB");
        a.dC = dense(dC, {parts.count, a.batch, a.length, a.states}, "dC");
        a.dA = dense(dA, {a.batch, a.dim, a.states}, "dA");
        a.dD = dense(dD, {a.batch, a.dim}, "dD");
        a.dbias = dense(dbias, {a.batch, a.dim}, "dbias");
        a.dz = dense(dz, {a.batch, a.length, a.dim}, "dz");
        a.dh0 = dense(dh0, {a.batch, a.dim, a.states}, "dh0");
        require(z.has_value() == dz.has_value(), "dz must be given exactly when z is");
        parallel(a.batch * parts.count, threads, [&](int64_t i) {
            const int64_t p = i % parts.count;
            chosen->scan_backward(a, i / parts.count, parts.begin(p), parts.end(p), p);
        });
    }, nb::arg("u"), nb::arg("delta"), nb::arg("A"), nb::arg("B"), nb::arg("C"), nb::arg("D").none(), nb::arg("z").none(),
       nb::arg("delta_bias").none(), nb::arg("softplus"), nb::arg("reverse"), nb::arg("ckpt"), nb::arg("dy"),
       nb::arg("dh_last").none(), nb::arg("du"), nb::arg("ddelta"), nb::arg("dB"), nb::arg("dC"), nb::arg("dA"), nb::arg("dD"),
       nb::arg("dz").none(), nb::arg("dbias"), nb::arg("dh0"), nb::arg("threads"));

    auto conv_args = [](Array<3>& x, Array<2>& w, Maybe<1>& bias, Maybe<3>& h0, bool silu, bool reverse) {
        ConvArgs a{};
        a.batch = x.shape(0), a.length = x.shape(1), a.dim = x.shape(2), a.width = w.shape(1);
        require(a.width >= 2 && a.width <= 4, "the kernel width must be 2, 3 or 4");
        a.x = seq(x, a.batch, a.length, a.dim, "x");
        a.weight = dense(w, {a.dim, a.width}, "weight must be [channels, width]");
        a.bias = dense(bias, {a.dim}, "bias must be [channels]");
        a.h0 = dense(h0, {a.batch, a.width - 1, a.dim}, "initial_state must be [batch, width - 1, channels]");
        a.silu = silu, a.reverse = reverse;
        return a;
    };
    m.def("conv_forward", [conv_args](Array<3> x, Array<2> w, Maybe<1> bias, Maybe<3> h0, bool silu, bool reverse, Array<3> y,
                                      int threads) {
        ConvArgs a = conv_args(x, w, bias, h0, silu, reverse);
        a.y = dense(y, {a.batch, a.length, a.dim}, "y");
        const Parts parts(a.dim, parts_wanted(a.batch, threads));
        parallel(a.batch * parts.count, threads, [&](int64_t i) {
            const int64_t p = i % parts.count;
            chosen->conv_forward(a, i / parts.count, parts.begin(p), parts.end(p));
        });
    }, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(), nb::arg("h0").none(), nb::arg("silu"), nb::arg("reverse"),
       nb::arg("y"), nb::arg("threads"));
    m.def("conv_backward", [conv_args](Array<3> x, Array<2> w, Maybe<1> bias, Maybe<3> h0, bool silu, bool reverse, Array<3> dy,
                                       Array<3> dx, Array<3> dw, Array<2> db, Maybe<3> dh0, int threads) {
        ConvArgs a = conv_args(x, w, bias, h0, silu, reverse);
        a.dy = seq(dy, a.batch, a.length, a.dim, "dy must have the shape of x");
        a.dx = dense(dx, {a.batch, a.length, a.dim}, "dx");
        a.dw = dense(dw, {a.batch, a.dim, a.width}, "dw");
        a.db = dense(db, {a.batch, a.dim}, "db");
        a.dh0 = dense(dh0, {a.batch, a.width - 1, a.dim}, "dh0");
        const Parts parts(a.dim, parts_wanted(a.batch, threads));
        parallel(a.batch * parts.count, threads, [&](int64_t i) {
            const int64_t p = i % parts.count;
            chosen->conv_backward(a, i / parts.count, parts.begin(p), parts.end(p));
        });
    }, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(), nb::arg("h0").none(), nb::arg("silu"), nb::arg("reverse"),
       nb::arg("dy"), nb::arg("dx"), nb::arg("dw"), nb::arg("db"), nb::arg("dh0").none(), nb::arg("threads"));
}
