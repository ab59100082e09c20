// Products of two sparse matrices in compressed rows, row by row (Gustavson, ACM TOMS 4(3), 1978).
//
// The positions of a product are found once; values then follow from `spgemm_masked`, which computes
// the entries of X Y on any given positions. The derivatives of a product are masked products again,
// of transposes, on the positions of the factors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

// Where the rows of C = A B begin: crow_c [n_rows + 1] out. Returns the number of positions.
//   n_cols is the number of columns of B. Throws std::overflow_error when Index cannot count them.
template <class Index>
std::int64_t spgemm_offsets(const Index* crow_a, const Index* ccol_a, const Index* crow_b,
                            const Index* ccol_b, std::int64_t n_rows, std::int64_t n_cols,
                            Index* crow_c, int threads) {
  parallel_for_balanced(crow_a, n_rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::int64_t> seen(n_cols, -1);
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t count = 0;
      for (std::int64_t e = crow_a[i]; e < crow_a[i + 1]; ++e) {
        const std::int64_t k = ccol_a[e];
        for (std::int64_t f = crow_b[k]; f < crow_b[k + 1]; ++f)
          if (seen[ccol_b[f]] != i) {
            seen[ccol_b[f]] = i;
            ++count;
          }
      }
      crow_c[i + 1] = Index(count);  // at most n_cols, which Index holds
    }
  });
  std::int64_t total = 0;
  crow_c[0] = 0;
  for (std::int64_t i = 0; i < n_rows; ++i) {
    total += crow_c[i + 1];
    if (total > std::int64_t(std::numeric_limits<Index>::max()))
      throw std::overflow_error("the product has more entries than its index type counts");
    crow_c[i + 1] = Index(total);
  }
  return total;
}

// Sorted columns of C = A B: ccol_c [crow_c[n_rows]] out, rows as `spgemm_offsets` placed them.
template <class Index>
void spgemm_columns(const Index* crow_a, const Index* ccol_a, const Index* crow_b,
                    const Index* ccol_b, std::int64_t n_rows, std::int64_t n_cols,
                    const Index* crow_c, Index* ccol_c, int threads) {
  parallel_for_balanced(crow_a, n_rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::int64_t> seen(n_cols, -1);
    for (std::int64_t i = begin; i < end; ++i) {
      Index* out = ccol_c + crow_c[i];
      for (std::int64_t e = crow_a[i]; e < crow_a[i + 1]; ++e) {
        const std::int64_t k = ccol_a[e];
        for (std::int64_t f = crow_b[k]; f < crow_b[k + 1]; ++f)
          if (seen[ccol_b[f]] != i) {
            seen[ccol_b[f]] = i;
            *out++ = ccol_b[f];
          }
      }
      std::sort(ccol_c + crow_c[i], out);
    }
  });
}

// One member of a batch: where its values begin.
struct MaskedShape {
  std::int64_t batch, n_rows, n_cols;
  std::int64_t x_stride, y_stride, out_stride;
};

// Entries of X Y on the positions of P: out[p] = sum over k of X[i, k] Y[k, j] for p = (i, j).
//   n_rows and n_cols are those of P; a stride of zero shares one member with the whole batch.
template <class Index, class T>
void spgemm_masked(const Index* crow_x, const Index* ccol_x, const T* x, const Index* crow_y,
                   const Index* ccol_y, const T* y, const Index* crow_p, const Index* ccol_p,
                   T* out, const MaskedShape& shape, int threads) {
  parallel_for_balanced(crow_x, shape.n_rows, threads,
                        [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::int64_t> place(shape.n_cols, -1);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = crow_p[i], last = crow_p[i + 1];
      for (std::int64_t p = first; p < last; ++p) place[ccol_p[p]] = p;
      for (std::int64_t b = 0; b < shape.batch; ++b) {
        const T *xb = x + b * shape.x_stride, *yb = y + b * shape.y_stride;
        T* ob = out + b * shape.out_stride;
        std::fill(ob + first, ob + last, T(0));
        if (first == last) continue;
        for (std::int64_t e = crow_x[i]; e < crow_x[i + 1]; ++e) {
          const T factor = xb[e];
          const std::int64_t k = ccol_x[e];
          for (std::int64_t f = crow_y[k]; f < crow_y[k + 1]; ++f) {
            const std::int64_t p = place[ccol_y[f]];
            if (p >= 0) ob[p] += factor * yb[f];
          }
        }
      }
      for (std::int64_t p = first; p < last; ++p) place[ccol_p[p]] = -1;
    }
  });
}

}  // namespace torch_sla
