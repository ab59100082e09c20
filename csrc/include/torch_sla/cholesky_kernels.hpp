// Our own dense kernels: register-blocked products on column-major blocks, compiled for several
// instruction sets and chosen when they run. They carry the small fronts, where calling a BLAS costs
// more than the work, and everything where no BLAS is lent.
#pragma once

#include <cstdint>
#include <cstring>

#include "cholesky_scalar.hpp"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define TORCH_SLA_X86_DISPATCH 1
#endif
#if defined(__GNUC__) || defined(__clang__)
#define TORCH_SLA_INLINE inline __attribute__((always_inline))
#else
#define TORCH_SLA_INLINE inline
#endif

namespace torch_sla {
namespace dense {

using Size = std::int64_t;

#if defined(__GNUC__) || defined(__clang__)
// Registers of Bytes bytes, loaded from addresses aligned to the element only.
template <class T, int Bytes>
struct Lanes {
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
};

// C[0:V*lanes, 0:N] (+)= -A B^T on registers; B is read b[j + k*ldb]. Fresh: C is overwritten.
template <class T, int Bytes, int V, int N, bool Fresh>
TORCH_SLA_INLINE void tile(Size k, const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  using Vec = typename Lanes<T, Bytes>::type;
  constexpr int L = Bytes / static_cast<int>(sizeof(T));
  Vec acc[N][V];
  for (int j = 0; j < N; ++j)
    for (int v = 0; v < V; ++v) acc[j][v] = Vec{} ;
  for (Size p = 0; p < k; ++p) {
    Vec x[V];
    for (int v = 0; v < V; ++v) x[v] = *reinterpret_cast<const Vec*>(a + p * lda + v * L);
    for (int j = 0; j < N; ++j) {
      const T y = b[p * ldb + j];
      for (int v = 0; v < V; ++v) acc[j][v] += x[v] * y;
    }
  }
  for (int j = 0; j < N; ++j)
    for (int v = 0; v < V; ++v) {
      Vec* to = reinterpret_cast<Vec*>(c + j * ldc + v * L);
      *to = Fresh ? -acc[j][v] : *to - acc[j][v];
    }
}

// The last rows of a block, fewer than a register holds.
template <class T, int N, bool Fresh>
TORCH_SLA_INLINE void tail(Size m, Size k, const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  for (Size i = 0; i < m; ++i) {
    T acc[N] = {};
    for (Size p = 0; p < k; ++p) {
      const T x = a[p * lda + i];
      for (int j = 0; j < N; ++j) acc[j] += x * b[p * ldb + j];
    }
    for (int j = 0; j < N; ++j) c[j * ldc + i] = Fresh ? -acc[j] : c[j * ldc + i] - acc[j];
  }
}

template <class T, int Bytes, int V, int N, bool Fresh>
TORCH_SLA_INLINE void strip(Size m, Size k, const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  constexpr int L = Bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + V * L <= m; i += V * L) tile<T, Bytes, V, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc);
  if constexpr (V > 2)
    if (i + 2 * L <= m) {
      tile<T, Bytes, 2, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc);
      i += 2 * L;
    }
  if constexpr (V > 1)
    for (; i + L <= m; i += L) tile<T, Bytes, 1, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc);
  if (i < m) tail<T, N, Fresh>(m - i, k, a + i, lda, b, ldb, c + i, ldc);
}

// C[0:m, 0:n] (+)= -A[0:m, 0:k] B[0:n, 0:k]^T. With Lower, only rows i >= j of C are promised: whole
// strips of four columns are computed from the strip's first row on.
template <class T, int Bytes, int V, bool Fresh, bool Lower>
TORCH_SLA_INLINE void product_body(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb,
                                   T* c, Size ldc) {
  Size j = 0;
  for (; j + 4 <= n; j += 4) {
    const Size top = Lower ? j : 0;
    strip<T, Bytes, V, 4, Fresh>(m - top, k, a + top, lda, b + j, ldb, c + j * ldc + top, ldc);
  }
  const Size top = Lower ? j : 0;
  a += top;
  b += j;
  c += j * ldc + top;
  if (n - j == 3) strip<T, Bytes, V, 3, Fresh>(m - top, k, a, lda, b, ldb, c, ldc);
  if (n - j == 2) strip<T, Bytes, V, 2, Fresh>(m - top, k, a, lda, b, ldb, c, ldc);
  if (n - j == 1) strip<T, Bytes, V, 1, Fresh>(m - top, k, a, lda, b, ldb, c, ldc);
}
#endif  // vector extensions

// The same for types and compilers without registers of their own; B is conjugated.
template <class T, bool Fresh, bool Lower>
TORCH_SLA_INLINE void product_plain(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb,
                                    T* c, Size ldc) {
  for (Size j = 0; j < n; ++j) {
    T* to = c + j * ldc;
    const Size top = Lower ? j : 0;
    if (Fresh)
      for (Size i = top; i < m; ++i) to[i] = T(0);
    for (Size p = 0; p < k; ++p) {
      const T y = conjugate(b[p * ldb + j]);
      const T* x = a + p * lda;
      for (Size i = top; i < m; ++i) to[i] -= product(x[i], y);
    }
  }
}

// Column p of a panel of `rows` rows whose columns before p are final and have been applied to it:
// divide by the root of the pivot, apply to the columns up to `end`. Returns false where the pivot is
// not a positive finite number.
template <class T>
TORCH_SLA_INLINE bool eliminate_column(Size rows, Size p, Size end, T* panel, Size ld) {
  T* x = panel + p * ld;
  const Real<T> pivot = real_part(x[p]);
  if (!(pivot > 0) || !std::isfinite(pivot)) return false;
  const Real<T> root = std::sqrt(pivot), scale = 1 / root;
  x[p] = T(root);
  for (Size i = p + 1; i < rows; ++i) x[i] *= scale;
  for (Size j = p + 1; j < end; ++j) {
    T* to = panel + j * ld;
    const T y = conjugate(x[j]);
    for (Size i = j; i < rows; ++i) to[i] -= product(x[i], y);
  }
  return true;
}

#define TORCH_SLA_KERNEL_SET(NAME, ATTRIBUTE, PRODUCT)                                             \
  template <class T, bool Fresh, bool Lower>                                                       \
  ATTRIBUTE void product_##NAME(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb, \
                                T* c, Size ldc) {                                                  \
    PRODUCT(Fresh, Lower)(m, n, k, a, lda, b, ldb, c, ldc);                                        \
  }                                                                                                \
  template <class T>                                                                               \
  ATTRIBUTE Size panel_##NAME(Size rows, Size columns, T* panel, Size ld) {                        \
    constexpr Size width = is_complex<T> ? 4 : 8;                                                  \
    for (Size j = 0; j < columns; j += width) {                                                    \
      const Size end = j + width < columns ? j + width : columns;                                  \
      if (j > 0)                                                                                   \
        PRODUCT(false, true)                                                                       \
        (rows - j, end - j, j, panel + j, ld, panel + j, ld, panel + j * ld + j, ld);              \
      for (Size p = j; p < end; ++p)                                                               \
        if (!eliminate_column(rows, p, end, panel, ld)) return p;                                  \
    }                                                                                              \
    return -1;                                                                                     \
  }

#define TORCH_SLA_PLAIN(F, L) product_plain<T, F, L>
TORCH_SLA_KERNEL_SET(plain, , TORCH_SLA_PLAIN)
#if defined(__GNUC__) || defined(__clang__)
#define TORCH_SLA_B16(F, L) product_body<T, 16, 3, F, L>
TORCH_SLA_KERNEL_SET(vector16, , TORCH_SLA_B16)
#endif
#ifdef TORCH_SLA_X86_DISPATCH
#define TORCH_SLA_B32(F, L) product_body<T, 32, 3, F, L>
TORCH_SLA_KERNEL_SET(avx2, __attribute__((target("avx2,fma"))), TORCH_SLA_B32)
#define TORCH_SLA_B64(F, L) product_body<T, 64, 3, F, L>
TORCH_SLA_KERNEL_SET(avx512, __attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma"))),
                     TORCH_SLA_B64)
TORCH_SLA_KERNEL_SET(plain_avx2, __attribute__((target("avx2,fma"))), TORCH_SLA_PLAIN)
#endif

// 0: whatever the compiler's baseline is, 1: AVX2 with FMA, 2: AVX-512.
inline int instruction_set() {
#ifdef TORCH_SLA_X86_DISPATCH
  static const int level = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                   __builtin_cpu_supports("avx512dq")
                               ? 2
                           : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1
                                                                                             : 0;
  return level;
#else
  return 0;
#endif
}

template <class T>
struct Kernels {
  using Product = void(Size, Size, Size, const T*, Size, const T*, Size, T*, Size);
  Product* subtract;        // C -= A B^H
  Product* subtract_lower;  // the same, rows i >= j of C only
  Product* fresh_lower;     // C = -A B^H, rows i >= j only
  Size (*panel)(Size, Size, T*, Size);
};

template <class T>
const Kernels<T>& kernels() {
#define TORCH_SLA_TABLE(NAME)                                                                  \
  {                                                                                            \
    product_##NAME<T, false, false>, product_##NAME<T, false, true>, product_##NAME<T, true, true>, \
        panel_##NAME<T>                                                                        \
  }
  static const Kernels<T> table = [] {
    [[maybe_unused]] const int level = instruction_set();
    if constexpr (is_complex<T>) {
#ifdef TORCH_SLA_X86_DISPATCH
      if (level >= 1) return Kernels<T> TORCH_SLA_TABLE(plain_avx2);
#endif
      return Kernels<T> TORCH_SLA_TABLE(plain);
    } else {
#ifdef TORCH_SLA_X86_DISPATCH
      if (level == 2) return Kernels<T> TORCH_SLA_TABLE(avx512);
      if (level == 1) return Kernels<T> TORCH_SLA_TABLE(avx2);
#endif
#if defined(__GNUC__) || defined(__clang__)
      return Kernels<T> TORCH_SLA_TABLE(vector16);
#else
      return Kernels<T> TORCH_SLA_TABLE(plain);
#endif
    }
  }();
  return table;
#undef TORCH_SLA_TABLE
}

#undef TORCH_SLA_KERNEL_SET
#undef TORCH_SLA_PLAIN

}  // namespace dense
}  // namespace torch_sla
