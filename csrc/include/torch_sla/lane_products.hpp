// Registers of numbers, one for each of many matrices, and products of blocks of them.
#pragma once

#include "cholesky_front.hpp"

namespace torch_sla {
namespace lanes {

using dense::Size;

template <class T, int Bytes>
struct Pack {
#ifdef TORCH_SLA_VECTORS
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
#endif
};
template <class T>
struct Pack<T, static_cast<int>(sizeof(T))> {
  typedef T type;
};

// Pointers to packs, moved by whole packs.
template <class T, int Bytes>
struct Packs {
  using Vec = typename Pack<T, Bytes>::type;
  static constexpr Size L = Bytes / static_cast<int>(sizeof(T));
  T* at;
  TORCH_SLA_INLINE Vec& operator[](Size i) const { return *reinterpret_cast<Vec*>(at + i * L); }
  TORCH_SLA_INLINE Packs operator+(Size i) const { return {at + i * L}; }
};

// C[i, j] -= sum_p A[i, p] B[j, p] on an M x N block in registers; Fresh: C is overwritten.
template <class T, int Bytes, int M, int N, bool Fresh>
TORCH_SLA_INLINE void tile(Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb, Packs<T, Bytes> c,
                           Size ldc) {
  using Vec = typename Pack<T, Bytes>::type;
  Vec acc[N][M];
  for (int j = 0; j < N; ++j)
    for (int i = 0; i < M; ++i) acc[j][i] = Fresh ? Vec{} : c[j * ldc + i];
  for (Size p = 0; p < k; ++p) {
    Vec x[M];
    for (int i = 0; i < M; ++i) x[i] = a[p * lda + i];
    for (int j = 0; j < N; ++j) {
      const Vec y = b[p * ldb + j];
      for (int i = 0; i < M; ++i) acc[j][i] -= x[i] * y;
    }
  }
  for (int j = 0; j < N; ++j)
    for (int i = 0; i < M; ++i) c[j * ldc + i] = acc[j][i];
}

template <class T, int Bytes, int N, bool Fresh>
TORCH_SLA_INLINE void strip(Size m, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                            Packs<T, Bytes> c, Size ldc) {
  Size i = 0;
  for (; i + 4 <= m; i += 4) tile<T, Bytes, 4, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc);
  switch (m - i) {
    case 3: tile<T, Bytes, 3, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    case 2: tile<T, Bytes, 2, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    case 1: tile<T, Bytes, 1, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    default: break;
  }
}

// Columns of a block at a time: as many accumulators as there are registers.
template <int Bytes>
constexpr int kColumns = Bytes >= 64 ? 4 : 2;

// C[0:m, 0:n] (+)= -A B^T; with Lower only rows i >= j are promised.
template <class T, int Bytes, bool Fresh, bool Lower>
TORCH_SLA_INLINE void subtract(Size m, Size n, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                               Packs<T, Bytes> c, Size ldc) {
  constexpr int N = kColumns<Bytes>;
  for (Size j = 0; j < n; j += N) {
    const Size top = Lower ? j : 0;
    const auto x = a + top, y = b + j, z = c + j * ldc + top;
    if (n - j >= N)
      strip<T, Bytes, N, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else if (n - j == 1)
      strip<T, Bytes, 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else if (n - j == 2)
      strip<T, Bytes, N >= 2 ? 2 : 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else
      strip<T, Bytes, N >= 3 ? 3 : 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
  }
}

// The same for what is in registers as for a single matrix, which has a BLAS.
template <class T, int Bytes, bool Fresh, bool Lower>
TORCH_SLA_INLINE void minus(Size m, Size n, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                            Packs<T, Bytes> c, Size ldc) {
  if constexpr (Bytes == static_cast<int>(sizeof(T)))
    subtract_product<T>(borrowed_blas<T>(), Conj::no, Lower, Fresh, m, n, k, a.at, lda, b.at, ldb, c.at, ldc);
  else
    subtract<T, Bytes, Fresh, Lower>(m, n, k, a, lda, b, ldb, c, ldc);
}

}  // namespace lanes
}  // namespace torch_sla
