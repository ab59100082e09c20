// Our own dense kernels: register-blocked products on column-major blocks, compiled for several
// instruction sets and chosen when they run. They carry the small fronts, where calling a BLAS costs
// more than the work, and everything where no BLAS is lent.
#pragma once

#include <cstdint>
#include <cstring>

#include "cholesky_scalar.hpp"

// Vectors that lie at any element. In templates clang forgets that they may, and x86 insists on the alignment it assumes.
#if defined(__GNUC__) && !(defined(__clang__) && defined(__x86_64__))
#define TORCH_SLA_VECTORS 1
#endif
#if defined(TORCH_SLA_VECTORS) && defined(__x86_64__)
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

#ifdef TORCH_SLA_VECTORS
// Registers of Bytes bytes, loaded from addresses aligned to the element only.
template <class T, int Bytes>
struct Lanes {
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
};

// Where op(B)[k, j] is: b[j + k*ld] for a transposed B, b[k + j*ld] for a plain one.
template <bool Transposed>
TORCH_SLA_INLINE Size at(Size k, Size j, Size ld) {
  return Transposed ? j + k * ld : k + j * ld;
}

// C[0:V*lanes, 0:N] (+)= -A op(B) on registers. Fresh: C is overwritten.
template <class T, int Bytes, int V, int N, bool Fresh, bool Transposed>
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
      const T y = b[at<Transposed>(p, j, ldb)];
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
template <class T, int N, bool Fresh, bool Transposed>
TORCH_SLA_INLINE void tail(Size m, Size k, const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  for (Size i = 0; i < m; ++i) {
    T acc[N] = {};
    for (Size p = 0; p < k; ++p) {
      const T x = a[p * lda + i];
      for (int j = 0; j < N; ++j) acc[j] += x * b[at<Transposed>(p, j, ldb)];
    }
    for (int j = 0; j < N; ++j) c[j * ldc + i] = Fresh ? -acc[j] : c[j * ldc + i] - acc[j];
  }
}

template <class T, int Bytes, int V, int N, bool Fresh, bool Transposed>
TORCH_SLA_INLINE void strip(Size m, Size k, const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  constexpr int L = Bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + V * L <= m; i += V * L) tile<T, Bytes, V, N, Fresh, Transposed>(k, a + i, lda, b, ldb, c + i, ldc);
  if constexpr (V > 2)
    if (i + 2 * L <= m) {
      tile<T, Bytes, 2, N, Fresh, Transposed>(k, a + i, lda, b, ldb, c + i, ldc);
      i += 2 * L;
    }
  if constexpr (V > 1)
    for (; i + L <= m; i += L) tile<T, Bytes, 1, N, Fresh, Transposed>(k, a + i, lda, b, ldb, c + i, ldc);
  if (i < m) tail<T, N, Fresh, Transposed>(m - i, k, a + i, lda, b, ldb, c + i, ldc);
}

// C[0:m, 0:n] (+)= -A[0:m, 0:k] op(B). With Lower, only rows i >= j of C are promised: whole strips of
// four columns are computed from the strip's first row on.
template <class T, int Bytes, int V, bool Fresh, bool Lower, bool Transposed>
TORCH_SLA_INLINE void product_body(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb,
                                   T* c, Size ldc) {
  Size j = 0;
  for (; j + 4 <= n; j += 4) {
    const Size top = Lower ? j : 0;
    strip<T, Bytes, V, 4, Fresh, Transposed>(m - top, k, a + top, lda, b + at<Transposed>(0, j, ldb),
                                             ldb, c + j * ldc + top, ldc);
  }
  const Size top = Lower ? j : 0;
  a += top;
  b += at<Transposed>(0, j, ldb);
  c += j * ldc + top;
  if (n - j == 3) strip<T, Bytes, V, 3, Fresh, Transposed>(m - top, k, a, lda, b, ldb, c, ldc);
  if (n - j == 2) strip<T, Bytes, V, 2, Fresh, Transposed>(m - top, k, a, lda, b, ldb, c, ldc);
  if (n - j == 1) strip<T, Bytes, V, 1, Fresh, Transposed>(m - top, k, a, lda, b, ldb, c, ldc);
}
#endif  // vector extensions

// The same for types and compilers without registers of their own. Conj: B is conjugated.
template <class T, bool Fresh, bool Lower, bool Transposed, bool Conj>
TORCH_SLA_INLINE void product_loops(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb,
                                    T* c, Size ldc) {
  for (Size j = 0; j < n; ++j) {
    T* to = c + j * ldc;
    const Size top = Lower ? j : 0;
    if (Fresh)
      for (Size i = top; i < m; ++i) to[i] = T(0);
    for (Size p = 0; p < k; ++p) {
      const T given = b[Transposed ? j + p * ldb : p + j * ldb];
      const T y = Conj ? conjugate(given) : given;
      const T* x = a + p * lda;
      for (Size i = top; i < m; ++i) to[i] -= product(x[i], y);
    }
  }
}

// Rows of X with X L^H = A, in place, for the W x W lower triangle L whose diagonal holds the
// reciprocals `inverse`: each row in registers.
template <class T, int W>
TORCH_SLA_INLINE void substitute_plain(Size m, const T* l, Size ldl, const Real<T>* inverse, T* x, Size ldx) {
  for (int j = 0; j < W; ++j)
    for (Size i = 0; i < m; ++i) {
      T sum = x[j * ldx + i];
      for (int p = 0; p < j; ++p) sum -= product(x[p * ldx + i], conjugate(l[p * ldl + j]));
      x[j * ldx + i] = sum * inverse[j];
    }
}

#ifdef TORCH_SLA_VECTORS
template <class T, int Bytes, int W>
TORCH_SLA_INLINE void substitute(Size m, const T* l, Size ldl, const T* inverse, T* x, Size ldx) {
  using Vec = typename Lanes<T, Bytes>::type;
  constexpr int N = Bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + N <= m; i += N) {
    Vec row[W];
    for (int j = 0; j < W; ++j) row[j] = *reinterpret_cast<const Vec*>(x + j * ldx + i);
    for (int j = 0; j < W; ++j) {
      row[j] *= inverse[j];
      for (int q = j + 1; q < W; ++q) row[q] -= row[j] * l[j * ldl + q];
    }
    for (int j = 0; j < W; ++j) *reinterpret_cast<Vec*>(x + j * ldx + i) = row[j];
  }
  if (i < m) substitute_plain<T, W>(m - i, l, ldl, inverse, x + i, ldx);
}
#endif

// Cholesky of a W x W block, lower triangle, with the reciprocals of its diagonal. Returns the first
// pivot that is not a positive finite number, or -1.
template <class T, int W>
TORCH_SLA_INLINE Size small_cholesky(T* a, Size ld, Real<T>* inverse) {
  for (int p = 0; p < W; ++p) {
    T* x = a + p * ld;
    const Real<T> pivot = real_part(x[p]);
    if (!(pivot > 0) || !std::isfinite(pivot)) return p;
    const Real<T> root = std::sqrt(pivot);
    inverse[p] = 1 / root;
    x[p] = T(root);
    for (int i = p + 1; i < W; ++i) x[i] *= inverse[p];
    for (int j = p + 1; j < W; ++j) {
      const T y = conjugate(x[j]);
      for (int i = j; i < W; ++i) a[j * ld + i] -= product(x[i], y);
    }
  }
  return -1;
}

// One strip of W columns: the block on the diagonal, then the rows below it.
template <class T, int Bytes, int W>
TORCH_SLA_INLINE Size strip_body(Size rows, T* a, Size ld) {
  Real<T> inverse[W];
  const Size bad = small_cholesky<T, W>(a, ld, inverse);
  if (bad >= 0) return bad;
#ifdef TORCH_SLA_VECTORS
  if constexpr (Bytes > 0) {
    substitute<T, Bytes, W>(rows - W, a, ld, inverse, a + W, ld);
    return -1;
  }
#endif
  substitute_plain<T, W>(rows - W, a, ld, inverse, a + W, ld);
  return -1;
}

template <class T, int Bytes>
TORCH_SLA_INLINE Size any_strip(Size rows, Size width, T* a, Size ld) {
  switch (width) {
    case 1: return strip_body<T, Bytes, 1>(rows, a, ld);
    case 2: return strip_body<T, Bytes, 2>(rows, a, ld);
    case 3: return strip_body<T, Bytes, 3>(rows, a, ld);
    case 4: return strip_body<T, Bytes, 4>(rows, a, ld);
    case 5: return strip_body<T, Bytes, 5>(rows, a, ld);
    case 6: return strip_body<T, Bytes, 6>(rows, a, ld);
    case 7: return strip_body<T, Bytes, 7>(rows, a, ld);
    default: return strip_body<T, Bytes, 8>(rows, a, ld);
  }
}

// A kernel set: the same functions for one instruction set. `panel` is the Cholesky of the first
// `columns` rows of a panel and forward substitution for its other rows, in strips of eight columns;
// it returns the first bad pivot, or -1.
#define TORCH_SLA_KERNEL_SET(NAME, ATTRIBUTE, BYTES, PRODUCT)                                       \
  template <class T, bool Fresh, bool Lower, bool Transposed, bool Conj>                            \
  ATTRIBUTE void product_##NAME(Size m, Size n, Size k, const T* a, Size lda, const T* b, Size ldb, \
                                T* c, Size ldc) {                                                   \
    PRODUCT(Fresh, Lower, Transposed, Conj)(m, n, k, a, lda, b, ldb, c, ldc);                       \
  }                                                                                                 \
  template <class T>                                                                                \
  ATTRIBUTE Size panel_##NAME(Size rows, Size columns, T* panel, Size ld) {                         \
    for (Size j = 0; j < columns; j += 8) {                                                         \
      const Size width = columns - j < 8 ? columns - j : 8;                                         \
      T* here = panel + j * ld + j;                                                                 \
      if (j > 0)                                                                                    \
        PRODUCT(false, true, true, true)(rows - j, width, j, panel + j, ld, panel + j, ld, here, ld); \
      const Size bad = any_strip<T, BYTES>(rows - j, width, here, ld);                              \
      if (bad >= 0) return j + bad;                                                                 \
    }                                                                                               \
    return -1;                                                                                      \
  }

#define TORCH_SLA_LOOPS(F, L, X, C) product_loops<T, F, L, X, C>
TORCH_SLA_KERNEL_SET(plain, , 0, TORCH_SLA_LOOPS)
#ifdef TORCH_SLA_VECTORS
#define TORCH_SLA_B16(F, L, X, C) product_body<T, 16, 3, F, L, X>
TORCH_SLA_KERNEL_SET(vector16, , 16, TORCH_SLA_B16)
#endif
#ifdef TORCH_SLA_X86_DISPATCH
#define TORCH_SLA_B32(F, L, X, C) product_body<T, 32, 3, F, L, X>
#define TORCH_SLA_B64(F, L, X, C) product_body<T, 64, 3, F, L, X>
#define TORCH_SLA_AVX2 __attribute__((target("avx2,fma")))
#define TORCH_SLA_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma")))
TORCH_SLA_KERNEL_SET(avx2, TORCH_SLA_AVX2, 32, TORCH_SLA_B32)
TORCH_SLA_KERNEL_SET(avx512, TORCH_SLA_AVX512, 64, TORCH_SLA_B64)
TORCH_SLA_KERNEL_SET(plain_avx2, TORCH_SLA_AVX2, 0, TORCH_SLA_LOOPS)
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
  // C -= A op(B) or, fresh, C = -A op(B); lower: rows i >= j of C only; op conjugates or does not.
  Product* transposed[2][2][2];  // [fresh][lower][conjugated], op(B) = B^T or B^H
  Product* plain;                // C -= A B
  Size (*panel)(Size, Size, T*, Size);
};

template <class T>
const Kernels<T>& kernels() {
#define TORCH_SLA_OPS(NAME, F, L) \
  { product_##NAME<T, F, L, true, !is_complex<T>>, product_##NAME<T, F, L, true, true> }
#define TORCH_SLA_TABLE(NAME)                                                              \
  {                                                                                        \
    {{TORCH_SLA_OPS(NAME, false, false), TORCH_SLA_OPS(NAME, false, true)},                \
     {TORCH_SLA_OPS(NAME, true, false), TORCH_SLA_OPS(NAME, true, true)}},                 \
        product_##NAME<T, false, false, false, !is_complex<T>>, panel_##NAME<T>            \
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
#ifdef TORCH_SLA_VECTORS
      return Kernels<T> TORCH_SLA_TABLE(vector16);
#else
      return Kernels<T> TORCH_SLA_TABLE(plain);
#endif
    }
  }();
  return table;
}

#undef TORCH_SLA_TABLE
#undef TORCH_SLA_OPS
#undef TORCH_SLA_KERNEL_SET
#undef TORCH_SLA_LOOPS
#undef TORCH_SLA_B16
#undef TORCH_SLA_B32
#undef TORCH_SLA_B64

}  // namespace dense
}  // namespace torch_sla
