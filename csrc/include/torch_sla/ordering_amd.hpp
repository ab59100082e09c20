// Approximate minimum degree (Amestoy, Davis, Duff, SIAM J. Matrix Anal. Appl. 17, 886-905, 1996),
// by Eigen's implementation.
#pragma once

#include <Eigen/OrderingMethods>
#include <Eigen/SparseCore>

#include "interrupt.hpp"
#include "ordering_graph.hpp"

// What Eigen's elimination calls twice for each pivot, with the 32-bit indices of ours: where marks are about to
// overflow, those of all vertices but dead ones are one again. It is the only place in which someone can end it.
template <>
inline std::int32_t Eigen::internal::cs_wclear<std::int32_t>(std::int32_t mark, std::int32_t room,
                                                             std::int32_t* marks, std::int32_t n) {
  torch_sla::check_interrupt();
  if (mark >= 2 && mark <= INT32_MAX - room) return mark;
  for (std::int32_t v = 0; v < n; ++v) marks[v] = marks[v] != 0;
  return 2;
}

namespace torch_sla {

// Elimination order of the graph: order[k] is the vertex eliminated k-th.
inline std::vector<std::int32_t> amd_ordering(const Graph& g) {
  const std::int64_t nnz = g.start[g.n] + g.n;
  if (nnz + nnz / 5 + 2 * static_cast<std::int64_t>(g.n) > INT32_MAX)
    throw std::overflow_error("minimum degree: " + std::to_string(nnz) +
                              " entries overflow its 32-bit counts");
  if (g.n == 0) return {};
  // Eigen takes a vertex without a diagonal entry for a dense one: the diagonal is put back.
  Eigen::SparseMatrix<char, Eigen::ColMajor, std::int32_t> pattern(g.n, g.n);
  pattern.resizeNonZeros(nnz);
  std::int32_t filled = 0;
  for (std::int32_t i = 0; i < g.n; ++i) {
    pattern.outerIndexPtr()[i] = filled;
    pattern.innerIndexPtr()[filled++] = i;
    for (std::int64_t e = g.start[i]; e < g.start[i + 1]; ++e)
      pattern.innerIndexPtr()[filled++] = g.neighbour[e];
  }
  pattern.outerIndexPtr()[g.n] = filled;
  Eigen::PermutationMatrix<Eigen::Dynamic, Eigen::Dynamic, std::int32_t> order;
  Eigen::internal::minimum_degree_ordering(pattern, order);
  return {order.indices().data(), order.indices().data() + g.n};
}

}  // namespace torch_sla
