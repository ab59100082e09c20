// Dense work on one front: factorise its panel, subtract what it sends to its parent.
//
// Large fronts are cut into blocks of fixed size, whatever the number of threads, so that results do
// not depend on it. Each block is one call of a borrowed BLAS routine or of our own kernels.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "cholesky_blas.hpp"
#include "cholesky_kernels.hpp"
#include "parallel.hpp"

namespace torch_sla {

using dense::Size;

constexpr Size kPanelBlock = 128;   // columns factorised between two updates of a panel's rest
constexpr Size kTile = 384;         // rows and columns of a block of an update matrix
constexpr Size kSmallColumns = 32;  // below, our own kernels beat the call of a BLAS
constexpr double kParallelFlops = 2e7;

// C -= A B^H (or C = -A B^H) for A [m, k], B [n, k]; with `lower` only rows i >= j are promised.
// Without a BLAS, k is cut so that the operands of a block stay in the second-level cache.
template <class T>
void subtract_product(const Blas<T>& blas, bool lower, bool fresh, Size m, Size n, Size k, const T* a,
                      Size lda, const T* b, Size ldb, T* c, Size ldc) {
  if (m == 0 || n == 0) return;
  const auto& own = dense::kernels<T>();
  if (k >= kSmallColumns && m * n >= 64 * 64 && blas.complete()) {
    const char transposed = is_complex<T> ? 'C' : 'T';
    const int mi = static_cast<int>(m), ni = static_cast<int>(n), ki = static_cast<int>(k);
    const int la = static_cast<int>(lda), lb = static_cast<int>(ldb), lc = static_cast<int>(ldc);
    if (lower && a == b) {
      char uplo = 'L', no = 'N';
      int order = ni, inner = ki, ld = la, ldo = lc;
      Real<T> minus = -1, keep = fresh ? 0 : 1;
      blas.rank(&uplo, &no, &order, &inner, &minus, lent(a), &ld, &keep, c, &ldo);
      if (m > n)
        call_gemm<T>(blas, 'N', transposed, mi - ni, ni, ki, T(-1), a + n, la, b, lb, T(fresh ? 0 : 1),
                     c + n, lc);
    } else {
      call_gemm<T>(blas, 'N', transposed, mi, ni, ki, T(-1), a, la, b, lb, T(fresh ? 0 : 1), c, lc);
    }
    return;
  }
  constexpr Size depth = 192;
  for (Size p = 0; p < k || (p == 0 && fresh); p += depth) {
    const Size d = std::min(depth, k - p);
    const T* ap = a + p * lda;
    const T* bp = b + p * ldb;
    if (lower)
      (fresh && p == 0 ? own.fresh_lower : own.subtract_lower)(m, n, d, ap, lda, bp, ldb, c, ldc);
    else
      (fresh && p == 0 ? own.fresh : own.subtract)(m, n, d, ap, lda, bp, ldb, c, ldc);
  }
}

// U -= A B^H, lower triangle of the m x m matrix U, in tiles that threads share out.
template <class T>
void subtract_update(const Blas<T>& blas, bool fresh, Size m, Size k, const T* a, Size lda, const T* b,
                     Size ldb, T* u, Size ldu, int threads) {
  if (m <= kTile) {
    subtract_product(blas, true, fresh, m, m, k, a, lda, b, ldb, u, ldu);
    return;
  }
  const Size blocks = (m + kTile - 1) / kTile;
  const auto column = [&](Size q) {
    const Size j = q * kTile, width = std::min(kTile, m - j);
    subtract_product(blas, true, fresh, width, width, k, a + j, lda, b + j, ldb, u + j * ldu + j, ldu);
    for (Size i = j + width; i < m; i += kTile)
      subtract_product(blas, false, fresh, std::min(kTile, m - i), width, k, a + i, lda, b + j, ldb,
                       u + j * ldu + i, ldu);
  };
  if (threads <= 1 || static_cast<double>(m) * m * k < kParallelFlops) {
    for (Size q = 0; q < blocks; ++q) column(q);
    return;
  }
  // Long and short columns of tiles dealt out in turn: 0, 3, 4, 7 ... to one of two workers.
  const int workers = static_cast<int>(std::min<Size>(threads, blocks));
  parallel_run(workers, [&](int worker) {
    for (Size q = 0; q < blocks; ++q) {
      const Size round = q / workers, turn = q % workers;
      if ((round % 2 ? workers - 1 - turn : turn) == worker) column(q);
    }
  });
}

// Panel of `rows` x `columns`: Cholesky of the leading block, the rows below it solved against it.
// Returns the first column whose pivot is not a positive finite number, or -1.
template <class T>
Size cholesky_panel(const Blas<T>& blas, Size rows, Size columns, T* panel, Size ld, int threads) {
  const auto& own = dense::kernels<T>();
  if (columns <= 2 * kSmallColumns) return own.panel(rows, columns, panel, ld);
  for (Size j = 0; j < columns; j += kPanelBlock) {
    const Size width = std::min(kPanelBlock, columns - j), below = rows - j - width;
    T* here = panel + j * ld + j;
    if (!blas.complete()) {
      const Size bad = own.panel(rows - j, width, here, ld);
      if (bad >= 0) return j + bad;
    } else {
      char uplo = 'L';
      int order = static_cast<int>(width), lead = static_cast<int>(ld), info = 0;
      blas.potrf(&uplo, &order, here, &lead, &info);
      if (info > 0) return j + info - 1;
      for (Size p = 0; p < width; ++p)  // some libraries let NaN pass
        if (!std::isfinite(real_part(here[p * ld + p]))) return j + p;
      const auto solve_rows = [&](Size begin, Size end) {
        if (begin < end)
          call_trsm<T>(blas, 'R', 'L', is_complex<T> ? 'C' : 'T', 'N', static_cast<int>(end - begin),
                       order, here, lead, here + width + begin, lead);
      };
      const Size blocks = (below + kTile - 1) / kTile;
      const bool many = threads > 1 && static_cast<double>(below) * width * width > kParallelFlops;
      parallel_for(blocks, many ? threads : 1, [&](Size begin, Size end, int) {
        for (Size q = begin; q < end; ++q) solve_rows(q * kTile, std::min(below, (q + 1) * kTile));
      });
    }
    const Size rest = columns - j - width;
    if (rest == 0) break;
    // The rest of the panel: a lower trapezoid, its square part first.
    T* lower = here + width;
    T* target = panel + (j + width) * ld + j + width;
    subtract_update(blas, false, rest, width, lower, ld, lower, ld, target, ld, threads);
    if (below > rest) {
      const Size blocks = (below - rest + kTile - 1) / kTile;
      const bool many = threads > 1 && static_cast<double>(below - rest) * rest * width > kParallelFlops;
      parallel_for(blocks, many ? threads : 1, [&](Size begin, Size end, int) {
        for (Size q = begin; q < end; ++q) {
          const Size from = rest + q * kTile, to = std::min(below, from + kTile);
          for (Size c = 0; c < rest; c += kTile)
            subtract_product(blas, false, false, to - from, std::min(kTile, rest - c), width,
                             lower + from, ld, lower + c, ld, target + c * ld + from, ld);
        }
      });
    }
  }
  return -1;
}

}  // namespace torch_sla
