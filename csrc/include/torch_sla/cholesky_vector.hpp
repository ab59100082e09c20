// Kernels for one right-hand side: four columns of a panel at a time, read once.
#pragma once

#include "cholesky_kernels.hpp"

namespace torch_sla {
namespace dense {

// y[0:m] -= A[:, 0:columns] x, with A conjugated where Conj.
template <class T, bool Conj>
TORCH_SLA_INLINE void apply_body(Size m, Size columns, const T* a, Size ld, const T* x, T* y) {
  const auto entry = [](T v) { return Conj ? conjugate(v) : v; };
  if (columns == 4) {
    const T x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
    const T *a0 = a, *a1 = a + ld, *a2 = a + 2 * ld, *a3 = a + 3 * ld;
    for (Size i = 0; i < m; ++i)
      y[i] -= (product(entry(a0[i]), x0) + product(entry(a1[i]), x1)) +
              (product(entry(a2[i]), x2) + product(entry(a3[i]), x3));
    return;
  }
  for (Size j = 0; j < columns; ++j)
    for (Size i = 0; i < m; ++i) y[i] -= product(entry(a[j * ld + i]), x[j]);
}

// x[j] -= sum_i A[i, j] y[i] for the columns 0 .. columns, at most 4.
template <class T, int Bytes>
TORCH_SLA_INLINE void gather_body(Size m, Size columns, const T* a, Size ld, const T* y, T* x) {
  Size i = 0;
#ifdef TORCH_SLA_VECTORS
  if constexpr (!is_complex<T>) {
    using Vec = typename Lanes<T, Bytes>::type;
    constexpr int N = Bytes / static_cast<int>(sizeof(T));
    if (columns == 4) {
      Vec s0{}, s1{}, s2{}, s3{};
      for (; i + N <= m; i += N) {
        const Vec v = *reinterpret_cast<const Vec*>(y + i);
        s0 += v * *reinterpret_cast<const Vec*>(a + i);
        s1 += v * *reinterpret_cast<const Vec*>(a + ld + i);
        s2 += v * *reinterpret_cast<const Vec*>(a + 2 * ld + i);
        s3 += v * *reinterpret_cast<const Vec*>(a + 3 * ld + i);
      }
      for (int l = 0; l < N; ++l) x[0] -= s0[l], x[1] -= s1[l], x[2] -= s2[l], x[3] -= s3[l];
    }
  }
#endif
  for (Size j = 0; j < columns; ++j) {
    T sum(0);
    for (Size k = i; k < m; ++k) sum += product(a[j * ld + k], y[k]);
    x[j] -= sum;
  }
}

template <class T>
struct VectorKernels {
  void (*apply)(Size, Size, const T*, Size, const T*, T*);
  void (*apply_conjugate)(Size, Size, const T*, Size, const T*, T*);
  void (*gather)(Size, Size, const T*, Size, const T*, T*);
};

#define TORCH_SLA_VECTOR_SET(NAME, ATTRIBUTE, BYTES)                                             \
  template <class T, bool Conj>                                                                  \
  ATTRIBUTE void apply_##NAME(Size m, Size columns, const T* a, Size ld, const T* x, T* y) {     \
    apply_body<T, Conj>(m, columns, a, ld, x, y);                                                \
  }                                                                                              \
  template <class T>                                                                             \
  ATTRIBUTE void gather_##NAME(Size m, Size columns, const T* a, Size ld, const T* y, T* x) {    \
    gather_body<T, BYTES>(m, columns, a, ld, y, x);                                              \
  }                                                                                              \
  template <class T>                                                                             \
  constexpr VectorKernels<T> vector_kernels_##NAME = {apply_##NAME<T, false>, apply_##NAME<T, true>, \
                                                      gather_##NAME<T>};

TORCH_SLA_VECTOR_SET(base, , 16)
#ifdef TORCH_SLA_X86_DISPATCH
TORCH_SLA_VECTOR_SET(avx2, TORCH_SLA_AVX2, 32)
#endif
#undef TORCH_SLA_VECTOR_SET

template <class T>
const VectorKernels<T>& vector_kernels() {
#ifdef TORCH_SLA_X86_DISPATCH
  if (instruction_set() >= 1) return vector_kernels_avx2<T>;
#endif
  return vector_kernels_base<T>;
}

}  // namespace dense
}  // namespace torch_sla
