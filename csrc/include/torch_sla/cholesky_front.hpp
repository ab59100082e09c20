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

enum class Conj : bool { no, yes };

template <class T>
inline char transpose_flag(Conj conj) {
  return is_complex<T> && conj == Conj::yes ? 'C' : 'T';
}

// C -= A op(B) (or C = -A op(B)) for A [m, k], B [n, k], op transposing and perhaps conjugating; with
// `lower` only rows i >= j are promised. Without a BLAS, k is cut so that operands stay in the cache.
template <class T>
void subtract_product(const Blas<T>& blas, Conj conj, bool lower, bool fresh, Size m, Size n, Size k,
                      const T* a, Size lda, const T* b, Size ldb, T* c, Size ldc) {
  if (m == 0 || n == 0) return;
  check_interrupt();
  if (k >= kSmallColumns && m * n >= 64 * 64 && blas.complete()) {
    const int mi = static_cast<int>(m), ni = static_cast<int>(n), ki = static_cast<int>(k);
    const int la = static_cast<int>(lda), lb = static_cast<int>(ldb), lc = static_cast<int>(ldc);
    const T keep(fresh ? 0 : 1);
    if (lower && a == b && conj == Conj::yes) {
      call_rank<T>(blas, ni, ki, a, la, fresh, c, lc);
      a += n, c += n;
    } else if (lower) {  // a square triangle of two factors: halves, so that little is done in vain
      if (n > 128) {
        const Size half = n / 2 / 8 * 8;
        subtract_product(blas, conj, true, fresh, half, half, k, a, lda, b, ldb, c, ldc);
        call_gemm<T>(blas, 'N', transpose_flag<T>(conj), mi - static_cast<int>(half),
                     static_cast<int>(half), ki, T(-1), a + half, la, b, lb, keep, c + half, lc);
        subtract_product(blas, conj, true, fresh, m - half, n - half, k, a + half, lda, b + half, ldb,
                         c + half * ldc + half, ldc);
        return;
      }
      call_gemm<T>(blas, 'N', transpose_flag<T>(conj), mi, ni, ki, T(-1), a, la, b, lb, keep, c, lc);
      return;
    }
    const int rest = lower ? mi - ni : mi;
    if (rest > 0)
      call_gemm<T>(blas, 'N', transpose_flag<T>(conj), rest, ni, ki, T(-1), a, la, b, lb, keep, c, lc);
    return;
  }
  const auto& own = dense::kernels<T>().transposed;
  constexpr Size depth = 192;
  for (Size p = 0; p < k || (p == 0 && fresh); p += depth)
    own[fresh && p == 0][lower][conj == Conj::yes](m, n, std::min(depth, k - p), a + p * lda, lda,
                                                   b + p * ldb, ldb, c, ldc);
}

// U -= A op(B), lower triangle of the m x m matrix U, in tiles that threads share out.
template <class T>
void subtract_update(const Blas<T>& blas, Conj conj, bool fresh, Size m, Size k, const T* a, Size lda, const T* b,
                     Size ldb, T* u, Size ldu, int threads) {
  if (m <= kTile) {
    subtract_product(blas, conj, true, fresh, m, m, k, a, lda, b, ldb, u, ldu);
    return;
  }
  const Size blocks = (m + kTile - 1) / kTile;
  const auto column = [&](Size q) {
    const Size j = q * kTile, width = std::min(kTile, m - j);
    subtract_product(blas, conj, true, fresh, width, width, k, a + j, lda, b + j, ldb, u + j * ldu + j, ldu);
    for (Size i = j + width; i < m; i += kTile)
      subtract_product(blas, conj, false, fresh, std::min(kTile, m - i), width, k, a + i, lda, b + j, ldb,
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
    subtract_update(blas, Conj::yes, false, rest, width, lower, ld, lower, ld, target, ld, threads);
    if (below > rest) {
      const Size blocks = (below - rest + kTile - 1) / kTile;
      const bool many = threads > 1 && static_cast<double>(below - rest) * rest * width > kParallelFlops;
      parallel_for(blocks, many ? threads : 1, [&](Size begin, Size end, int) {
        for (Size q = begin; q < end; ++q) {
          const Size from = rest + q * kTile, to = std::min(below, from + kTile);
          for (Size c = 0; c < rest; c += kTile)
            subtract_product(blas, Conj::yes, false, false, to - from, std::min(kTile, rest - c), width,
                             lower + from, ld, lower + c, ld, target + c * ld + from, ld);
        }
      });
    }
  }
  return -1;
}

}  // namespace torch_sla
