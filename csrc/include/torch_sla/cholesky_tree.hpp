// Elimination tree, postorder and column counts of a sparse Cholesky factor.
#pragma once

#include "ordering_graph.hpp"

namespace torch_sla {

// Elimination tree of the permuted matrix: parent[j] is the row of the first entry below the diagonal
// of column j of L, -1 at a root. order[k] = vertex of column k. Liu's algorithm with path compression
// (J. W. H. Liu, ACM Trans. Math. Softw. 12, 127-148, 1986).
inline std::vector<std::int32_t> elimination_tree(const Graph& g,
                                                  const std::vector<std::int32_t>& order,
                                                  const std::vector<std::int32_t>& position) {
  std::vector<std::int32_t> parent(g.n, -1), ancestor(g.n, -1);
  for (std::int32_t i = 0; i < g.n; ++i) {
    const std::int32_t v = order[i];
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) {
      std::int32_t k = position[g.neighbour[e]];
      while (k < i) {
        const std::int32_t next = ancestor[k];
        ancestor[k] = i;
        if (next == -1) {
          parent[k] = i;
          break;
        }
        k = next;
      }
    }
  }
  return parent;
}

// Children in compressed lists: those of p are child[start[p] .. start[p+1]), ascending. Roots are the
// children of node n.
struct Children {
  std::vector<std::int32_t> start, child;
  explicit Children(const std::vector<std::int32_t>& parent) {
    const std::int32_t n = static_cast<std::int32_t>(parent.size());
    start.assign(n + 2, 0);
    child.resize(n);
    for (std::int32_t j = 0; j < n; ++j) ++start[(parent[j] < 0 ? n : parent[j]) + 1];
    for (std::int32_t p = 0; p <= n; ++p) start[p + 1] += start[p];
    std::vector<std::int32_t> next(start.begin(), start.end() - 1);
    for (std::int32_t j = 0; j < n; ++j) child[next[parent[j] < 0 ? n : parent[j]]++] = j;
  }
};

// Depth-first postorder: post[k] is the k-th node. `last[p]`, where it is given and not -1, is the
// child that must come immediately before p.
inline std::vector<std::int32_t> postorder(const Children& tree,
                                           const std::vector<std::int32_t>* last = nullptr) {
  const std::int32_t n = static_cast<std::int32_t>(tree.child.size());
  std::vector<std::int32_t> post(n), stack;
  std::int32_t filled = n;  // a preorder that visits children in reverse, read backwards
  const auto push = [&](std::int32_t p) {
    const std::int32_t favourite = last && p < n ? (*last)[p] : -1;
    for (std::int32_t k = tree.start[p]; k < tree.start[p + 1]; ++k)
      if (tree.child[k] != favourite) stack.push_back(tree.child[k]);
    if (favourite >= 0) stack.push_back(favourite);
  };
  push(n);
  while (!stack.empty()) {
    const std::int32_t j = stack.back();
    stack.pop_back();
    post[--filled] = j;
    push(j);
  }
  return post;
}

// Entries in each column of L, diagonal included, for a matrix whose columns are already postordered
// (Gilbert, Ng, Peyton, SIAM J. Matrix Anal. Appl. 15, 1075-1091, 1994): column j gains one for each
// leaf of a row subtree it is, and loses one at the least common ancestor of consecutive leaves.
inline std::vector<std::int32_t> column_counts(const Graph& g,
                                               const std::vector<std::int32_t>& order,
                                               const std::vector<std::int32_t>& position,
                                               const std::vector<std::int32_t>& parent) {
  const std::int32_t n = g.n;
  std::vector<std::int32_t> first(n), delta(n, 0), highest_first(n, -1), leaf(n, -1), ancestor(n);
  for (std::int32_t j = 0; j < n; ++j) first[j] = ancestor[j] = j;
  for (std::int32_t j = 0; j < n; ++j)
    if (parent[j] >= 0 && first[j] < first[parent[j]]) first[parent[j]] = first[j];
  for (std::int32_t j = 0; j < n; ++j) {
    if (first[j] == j) delta[j] = 1;  // a leaf of the elimination tree
    if (parent[j] >= 0) --delta[parent[j]];
    const std::int32_t v = order[j];
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) {
      const std::int32_t i = position[g.neighbour[e]];
      if (i <= j || first[j] <= highest_first[i]) continue;
      highest_first[i] = first[j];
      ++delta[j];
      const std::int32_t previous = leaf[i];
      leaf[i] = j;
      if (previous < 0) continue;
      std::int32_t common = previous;
      while (ancestor[common] != common) common = ancestor[common];
      for (std::int32_t k = previous; k != common;) {
        const std::int32_t up = ancestor[k];
        ancestor[k] = common;
        k = up;
      }
      --delta[common];
    }
    if (parent[j] >= 0) ancestor[j] = parent[j];
  }
  for (std::int32_t j = 0; j < n; ++j)
    if (parent[j] >= 0) delta[parent[j]] += delta[j];
  return delta;
}

}  // namespace torch_sla
