// Compiled once per instruction set: CMake sets SLYTHER_ISA (a name), SLYTHER_LANES and the compiler's flags.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "simd.h"

namespace slyther {
namespace {

constexpr float LOG2E = 1.44269504088896341f, LN2 = 0.693147180559945309f;

template <typename T>
struct Buffer {  // aligned scratch; vectors wider than 16 bytes need it
    T* p;
    explicit Buffer(int64_t n) : p(static_cast<T*>(::operator new(sizeof(T) * (n > 0 ? n : 1), std::align_val_t(64)))) {}
    ~Buffer() { ::operator delete(p, std::align_val_t(64)); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
};

#include "scan.inc"
#include "conv.inc"

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

const Kernels* JOIN(kernels_, SLYTHER_ISA)() {
    static const Kernels k{TEXT(SLYTHER_ISA), W, scan_forward, scan_backward, conv_forward, conv_backward};
    return &k;
}

}  // namespace slyther
