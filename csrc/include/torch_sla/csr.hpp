// Compressed rows: building, transposing, expanding. Indices and positions only, no values.
//
// Index is std::int32_t or std::int64_t; offsets inside are 64-bit. Every function gives the same
// answer for every number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

// Whether the coordinates (row[e], col[e]), e < nnz, rise strictly in row-major order.
template <class Index>
bool sorted_unique(const Index* row, const Index* col, std::int64_t nnz) {
  for (std::int64_t e = 1; e < nnz; ++e)
    if (row[e] < row[e - 1] || (row[e] == row[e - 1] && col[e] <= col[e - 1])) return false;
  return true;
}

// offsets [n_targets + 1]: how many sources j have target[j] < t; nondecreasing, from 0.
template <class Index>
void count_offsets(const Index* target, std::int64_t n_sources, std::int64_t n_targets,
                   Index* offsets) {
  std::fill(offsets, offsets + n_targets + 1, Index(0));
  for (std::int64_t j = 0; j < n_sources; ++j) ++offsets[target[j] + 1];
  for (std::int64_t t = 0; t < n_targets; ++t) offsets[t + 1] += offsets[t];
}

// Stable counting sort of sources by target: order [n_sources] lists the sources of target 0 in
// rising order, then those of target 1 ... ; offsets [n_targets + 1] says where each list begins.
// Each worker owns a range of targets and reads all sources, so no two write to one place.
template <class Index>
void segment_order(const Index* target, std::int64_t n_sources, std::int64_t n_targets,
                   Index* offsets, Index* order, int threads) {
  count_offsets(target, n_sources, n_targets, offsets);
  std::vector<Index> next(offsets, offsets + n_targets);
  parallel_for_balanced(offsets, n_targets, threads,
                        [&](std::int64_t begin, std::int64_t end, int) {
    if (begin == 0 && end == n_targets) {
      for (std::int64_t j = 0; j < n_sources; ++j) order[next[target[j]]++] = Index(j);
    } else {
      for (std::int64_t j = 0; j < n_sources; ++j) {
        const std::int64_t t = target[j];
        if (t >= begin && t < end) order[next[t]++] = Index(j);
      }
    }
  });
}

// Coordinates in any order, repeated or not, to sorted unique CSR.
//   row, col [nnz] in range;  crow [n_rows + 1], slot [nnz] out, ccol [nnz] out, of which the first
//   (returned) number of slots are used. slot[e] is where entry e belongs.
// Entries are bucketed by row (counting sort); in each row a marker per column finds repetitions, so
// that only distinct columns are sorted.
template <class Index>
std::int64_t coo_to_csr(const Index* row, const Index* col, std::int64_t nnz, std::int64_t n_rows,
                        std::int64_t n_cols, Index* crow, Index* ccol, Index* slot, int threads) {
  std::vector<Index> first(n_rows + 1), order(nnz);
  segment_order(row, nnz, n_rows, first.data(), order.data(), threads);

  // Each worker numbers its own slots from zero and writes columns where its entries begin, a place
  // never too small; the shifts below then close the gaps.
  const int workers = worker_count(n_rows, threads);
  std::vector<std::int64_t> found(workers, 0);
  crow[0] = 0;
  parallel_run(workers, [&](int worker) {
    const std::int64_t begin = balanced_begin(first.data(), n_rows, workers, worker);
    const std::int64_t end = balanced_begin(first.data(), n_rows, workers, worker + 1);
    std::vector<Index> marker(begin < end ? n_cols : 0, Index(-1));
    Index* columns = ccol + first[begin];
    std::int64_t used = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t base = used;
      for (std::int64_t p = first[i]; p < first[i + 1]; ++p) {
        const Index c = col[order[p]];
        if (marker[c] < base) {
          marker[c] = Index(base);
          columns[used++] = c;
        }
      }
      std::sort(columns + base, columns + used);
      for (std::int64_t q = base; q < used; ++q) marker[columns[q]] = Index(q);
      for (std::int64_t p = first[i]; p < first[i + 1]; ++p)
        slot[order[p]] = marker[col[order[p]]];
      crow[i + 1] = Index(used);
    }
    found[worker] = used;
  });

  std::vector<std::int64_t> shift(workers + 1, 0);
  for (int worker = 0; worker < workers; ++worker) shift[worker + 1] = shift[worker] + found[worker];
  for (int worker = 1; worker < workers; ++worker) {
    const Index* columns = ccol + first[balanced_begin(first.data(), n_rows, workers, worker)];
    std::copy(columns, columns + found[worker], ccol + shift[worker]);
  }
  parallel_run(workers, [&](int worker) {
    if (shift[worker] == 0) return;
    const std::int64_t begin = balanced_begin(first.data(), n_rows, workers, worker);
    const std::int64_t end = balanced_begin(first.data(), n_rows, workers, worker + 1);
    for (std::int64_t i = begin; i < end; ++i) crow[i + 1] += Index(shift[worker]);
    for (std::int64_t p = first[begin]; p < first[end]; ++p)
      slot[order[p]] += Index(shift[worker]);
  });
  return shift[workers];
}

// row [nnz] of each slot.
template <class Index>
void expand_rows(const Index* crow, std::int64_t n_rows, Index* row, int threads) {
  parallel_for_balanced(crow, n_rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) std::fill(row + crow[i], row + crow[i + 1], Index(i));
  });
}

// CSR of the transpose: crow_t [n_cols + 1], ccol_t [nnz], perm [nnz] with values_t = values[perm].
// Columns come out sorted because rows are visited in order.
template <class Index>
void transpose_csr(const Index* crow, const Index* ccol, std::int64_t n_rows, std::int64_t n_cols,
                   Index* crow_t, Index* ccol_t, Index* perm, int threads) {
  const std::int64_t nnz = crow[n_rows];
  count_offsets(ccol, nnz, n_cols, crow_t);
  std::vector<Index> next(crow_t, crow_t + n_cols);
  parallel_for_balanced(crow_t, n_cols, threads, [&](std::int64_t begin, std::int64_t end, int) {
    const bool all = begin == 0 && end == n_cols;
    for (std::int64_t i = 0; i < n_rows; ++i)
      for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
        const std::int64_t c = ccol[e];
        if (all || (c >= begin && c < end)) {
          const std::int64_t q = next[c]++;
          ccol_t[q] = Index(i);
          perm[q] = Index(e);
        }
      }
  });
}

// slot [min(n_rows, n_cols)] of each diagonal position, -1 where there is none; rows are sorted.
template <class Index>
void diagonal_slots(const Index* crow, const Index* ccol, std::int64_t n_diagonal, Index* slot,
                    int threads) {
  parallel_for(n_diagonal, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Index* last = ccol + crow[i + 1];
      const Index* found = std::lower_bound(ccol + crow[i], last, Index(i));
      slot[i] = found != last && *found == Index(i) ? Index(found - ccol) : Index(-1);
    }
  });
}

}  // namespace torch_sla
