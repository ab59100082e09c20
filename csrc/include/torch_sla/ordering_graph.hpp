// The adjacency graph of a structurally symmetric matrix, and permutations.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace torch_sla {

// Vertices are int32, offsets into the adjacency 64-bit. No self loops, no duplicate edges, each edge
// stored from both ends. An empty `weight` means that every vertex weighs one.
struct Graph {
  std::int32_t n = 0;
  std::vector<std::int64_t> start;      // [n+1]
  std::vector<std::int32_t> neighbour;  // [start[n]]
  std::vector<std::int32_t> weight;     // [n] or empty
};

// Graph of the n x n CSR pattern (start [n+1], column [start[n]], columns ascending in each row)
// without its diagonal. Throws std::invalid_argument where the pattern is not symmetric: entry (i, j)
// of the lower triangle must be met by (j, i), which a cursor per row checks in one pass.
template <class Index>
Graph symmetric_graph(std::int64_t n, const Index* start, const Index* column) {
  if (n > INT32_MAX - 1)
    throw std::overflow_error("the matrix has " + std::to_string(n) +
                              " rows, more than 32-bit indices can number");
  Graph g;
  g.n = static_cast<std::int32_t>(n);
  g.start.resize(n + 1);
  g.neighbour.resize(static_cast<std::size_t>(start[n]));
  std::vector<std::int64_t> cursor(n);
  std::int64_t filled = 0;
  const auto fail = [](std::int64_t i, std::int64_t j) {
    throw std::invalid_argument("the pattern is not symmetric: entry (" + std::to_string(i) + ", " +
                                std::to_string(j) + ") has no counterpart");
  };
  for (std::int64_t i = 0; i < n; ++i) {
    g.start[i] = filled;
    bool below = true;
    cursor[i] = start[i + 1];
    for (std::int64_t k = start[i]; k < start[i + 1]; ++k) {
      const std::int64_t j = column[k];
      if (j < 0 || j >= n || (k > start[i] && j <= column[k - 1]))
        throw std::invalid_argument("row " + std::to_string(i) +
                                    ": columns must be ascending, unique and inside the matrix");
      if (j < i) {
        if (cursor[j] == start[j + 1] || column[cursor[j]] != i) fail(i, j);
        ++cursor[j];
      } else if (below) {
        below = false;
        cursor[i] = k + (j == i);  // the upper part of row i waits to be met by later rows
      }
      if (j != i) g.neighbour[filled++] = static_cast<std::int32_t>(j);
    }
  }
  g.start[n] = filled;
  for (std::int64_t i = 0; i < n; ++i)
    if (cursor[i] != start[i + 1]) fail(i, column[cursor[i]]);
  g.neighbour.resize(filled);
  return g;
}

inline std::vector<std::int32_t> inverse_permutation(const std::vector<std::int32_t>& p) {
  std::vector<std::int32_t> inverse(p.size());
  for (std::size_t k = 0; k < p.size(); ++k) inverse[p[k]] = static_cast<std::int32_t>(k);
  return inverse;
}

inline void check_permutation(const std::vector<std::int32_t>& p, std::int64_t n) {
  if (static_cast<std::int64_t>(p.size()) != n)
    throw std::invalid_argument("the permutation has " + std::to_string(p.size()) +
                                " entries, the matrix " + std::to_string(n) + " rows");
  std::vector<char> seen(n, 0);
  for (const std::int32_t i : p) {
    if (i < 0 || i >= n || seen[i])
      throw std::invalid_argument("not a permutation: " + std::to_string(i) +
                                  " is out of range or appears twice");
    seen[i] = 1;
  }
}

}  // namespace torch_sla
