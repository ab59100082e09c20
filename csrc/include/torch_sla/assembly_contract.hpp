// Element matrices from pulled-back coefficients and a table that all cells share, and the adjoint.
//
//   local[batch][cell][i][a][j][b] = sum_k R[a][b][batch][cell][k] * table[k][i][j]
//
// a and b count components of the test and the trial function, i and j their scalar basis functions.
#pragma once

#include <cstdint>
#include <vector>

#include "torch_sla/assembly_clones.hpp"
#include "torch_sla/parallel.hpp"

namespace torch_sla {

struct ContractShape {
  std::int64_t test_components, trial_components, batch, cells, terms;  // terms: extent of k
  std::int64_t test_nodes, trial_nodes;                                 // extents of i and j
};

namespace detail {

// out[0..N) = sum over k of p[k] * table[k][0..N), with the sums in registers: linear elements.
template <int N, class Scalar>
TORCH_SLA_INLINE void combine_short_rows(const double* table, std::int64_t terms, const Scalar* p,
                                         Scalar* out) {
  Scalar sum[N];
  for (int j = 0; j < N; ++j) sum[j] = Scalar(0);
  for (std::int64_t k = 0; k < terms; ++k, table += N)
    for (int j = 0; j < N; ++j) sum[j] += p[k] * table[j];
  for (int j = 0; j < N; ++j) out[j] = sum[j];
}

// The same for any length. Terms that vanish are skipped, the others are taken in order, four at a
// time. Element matrices of isotropic materials are mostly zeros here.
template <class Scalar>
TORCH_SLA_INLINE void combine_rows_generic(const double* table, std::int64_t terms, std::int64_t n,
                                           const Scalar* p, Scalar* out, std::int64_t* kept) {
  switch (n) {
    case 1: return combine_short_rows<1>(table, terms, p, out);
    case 2: return combine_short_rows<2>(table, terms, p, out);
    case 4: return combine_short_rows<4>(table, terms, p, out);
    case 9: return combine_short_rows<9>(table, terms, p, out);
    default: break;
  }
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < terms; ++k)
    if (p[k] != Scalar(0)) kept[count++] = k;
  for (std::int64_t j = 0; j < n; ++j) out[j] = Scalar(0);
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const Scalar p0 = p[kept[k]], p1 = p[kept[k + 1]], p2 = p[kept[k + 2]], p3 = p[kept[k + 3]];
    const double *t0 = table + kept[k] * n, *t1 = table + kept[k + 1] * n,
                 *t2 = table + kept[k + 2] * n, *t3 = table + kept[k + 3] * n;
    for (std::int64_t j = 0; j < n; ++j)
      out[j] += (p0 * t0[j] + p1 * t1[j]) + (p2 * t2[j] + p3 * t3[j]);
  }
  for (; k < count; ++k) {
    const Scalar p0 = p[kept[k]];
    const double* t0 = table + kept[k] * n;
    for (std::int64_t j = 0; j < n; ++j) out[j] += p0 * t0[j];
  }
}

// The same for many cells: p [cells][terms], out [cells][n].
template <class Scalar>
TORCH_SLA_INLINE void combine_cells_generic(const double* table, std::int64_t terms, std::int64_t n,
                                            std::int64_t cells, const Scalar* p, Scalar* out,
                                            std::int64_t* kept) {
  for (std::int64_t c = 0; c < cells; ++c)
    combine_rows_generic(table, terms, n, p + c * terms, out + c * n, kept);
}

template <class Scalar>
inline void combine_cells(const double* table, std::int64_t terms, std::int64_t n, std::int64_t cells,
                          const Scalar* p, Scalar* out, std::int64_t* kept) {
  combine_cells_generic(table, terms, n, cells, p, out, kept);
}

// The same for real numbers, compiled once per instruction set.
TORCH_SLA_CLONES
static void combine_cells(const double* table, std::int64_t terms, std::int64_t n, std::int64_t cells,
                          const double* p, double* out, std::int64_t* kept) {
  combine_cells_generic(table, terms, n, cells, p, out, kept);
}

}  // namespace detail

// R     [a][b][batch][cells][terms]
// table [terms][test_nodes * trial_nodes]
// local [batch][cells][test_nodes][a][trial_nodes][b]
template <class Scalar>
void contract(const ContractShape& s, const Scalar* R, const double* table, Scalar* local,
              int threads) {
  const std::int64_t pairs = s.test_components * s.trial_components;
  const std::int64_t n = s.test_nodes * s.trial_nodes, cells = s.batch * s.cells;
  parallel_for(cells, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Scalar> sum(n);
    std::vector<std::int64_t> kept(s.terms);
    if (pairs == 1) {
      detail::combine_cells(table, s.terms, n, end - begin, R + begin * s.terms, local + begin * n,
                            kept.data());
      return;
    }
    for (std::int64_t c = begin; c < end; ++c) {
      Scalar* out = local + c * n * pairs;
      for (std::int64_t a = 0; a < s.test_components; ++a)
        for (std::int64_t b = 0; b < s.trial_components; ++b) {
          const Scalar* p = R + ((a * s.trial_components + b) * cells + c) * s.terms;
          detail::combine_cells(table, s.terms, n, 1, p, sum.data(), kept.data());
          for (std::int64_t i = 0; i < s.test_nodes; ++i) {
            Scalar* row = out + ((i * s.test_components + a) * s.trial_nodes) * s.trial_components + b;
            for (std::int64_t j = 0; j < s.trial_nodes; ++j)
              row[j * s.trial_components] = sum[i * s.trial_nodes + j];
          }
        }
    }
  });
}

// The adjoint: R'[a][b][batch][cells][k] = sum_ij local'[...] * table[k][i][j].
// columns [test_nodes * trial_nodes][terms] is the table transposed.
template <class Scalar>
void contract_adjoint(const ContractShape& s, const Scalar* local, const double* columns, Scalar* R,
                      int threads) {
  const std::int64_t pairs = s.test_components * s.trial_components;
  const std::int64_t n = s.test_nodes * s.trial_nodes, cells = s.batch * s.cells;
  parallel_for(cells, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Scalar> tile(n);
    std::vector<std::int64_t> kept(n);
    if (pairs == 1) {
      detail::combine_cells(columns, n, s.terms, end - begin, local + begin * n, R + begin * s.terms,
                            kept.data());
      return;
    }
    for (std::int64_t c = begin; c < end; ++c) {
      const Scalar* in = local + c * n * pairs;
      for (std::int64_t a = 0; a < s.test_components; ++a)
        for (std::int64_t b = 0; b < s.trial_components; ++b) {
          for (std::int64_t i = 0; i < s.test_nodes; ++i) {
            const Scalar* row =
                in + ((i * s.test_components + a) * s.trial_nodes) * s.trial_components + b;
            for (std::int64_t j = 0; j < s.trial_nodes; ++j)
              tile[i * s.trial_nodes + j] = row[j * s.trial_components];
          }
          detail::combine_cells(columns, n, s.terms, 1, tile.data(),
                                R + ((a * s.trial_components + b) * cells + c) * s.terms,
                                kept.data());
        }
    }
  });
}

}  // namespace torch_sla
