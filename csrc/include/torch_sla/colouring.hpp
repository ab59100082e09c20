// Colouring of rows: rows of one colour share no column, so one product with the sum of their unit
// vectors shows all of them at once (Curtis, Powell and Reid, J. Inst. Maths Applics 13, 1974).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace torch_sla {

// Greedy colouring in the order of the rows; returns the number of colours.
//   crow [n_rows + 1], ccol [nnz]; crow_t [n_cols + 1], ccol_t [nnz] of the transpose; colour [n_rows].
template <class Index>
std::int64_t colour_rows(const Index* crow, const Index* ccol, const Index* crow_t,
                         const Index* ccol_t, std::int64_t n_rows, Index* colour) {
  std::vector<std::int64_t> taken;  // last row that found each colour on a neighbour
  for (std::int64_t i = 0; i < n_rows; ++i) {
    for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
      const std::int64_t j = ccol[e];
      for (std::int64_t f = crow_t[j]; f < crow_t[j + 1] && ccol_t[f] < i; ++f)
        taken[colour[ccol_t[f]]] = i;
    }
    const auto free = std::find_if(taken.begin(), taken.end(), [i](std::int64_t t) { return t != i; });
    colour[i] = Index(free - taken.begin());
    if (free == taken.end()) taken.push_back(-1);
  }
  return std::int64_t(taken.size());
}

}  // namespace torch_sla
