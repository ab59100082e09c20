// Symbolic analysis: everything about a supernodal factorisation that does not depend on the values.
//
// A front is the dense trapezoid of one supernode: `columns` eliminated columns by `rows` rows, of
// which the rows beyond the own columns form the update matrix that is added into the parent's front
// (multifrontal method; J. W. H. Liu, SIAM Review 34, 82-109, 1992). Panels are column-major with
// leading dimension `rows`.
#pragma once

#include "cholesky_supernodes.hpp"
#include "ordering_graph.hpp"

namespace torch_sla {

struct Symbolic {
  std::int32_t n = 0;
  std::int64_t nnz = 0;                 // entries of the pattern analysed
  std::vector<std::int32_t> order;      // [n] column of L -> row of A
  std::vector<std::int32_t> position;   // [n] row of A -> column of L
  std::vector<std::int32_t> first;      // [supernodes+1] first column
  std::vector<std::int32_t> parent;     // [supernodes] -1 at a root
  std::vector<std::int32_t> child_start, child;  // children of each supernode, ascending
  std::vector<std::int64_t> row_start;  // [supernodes+1] into row and relative
  std::vector<std::int32_t> row;        // rows of the front beyond the own columns, ascending
  std::vector<std::int32_t> relative;   // where each of them is in the parent's front
  std::vector<std::int64_t> panel;      // [supernodes+1] offset of each panel in the factor
  std::vector<std::int64_t> entry_start;   // [supernodes+1] into entry_source and entry_target
  std::vector<std::int32_t> entry_source;  // entry of A (a value index) ...
  std::vector<std::uint32_t> entry_target;  // ... and its place in the panel
  std::vector<std::int64_t> stack_top;  // [supernodes] where its update starts on stack depth % 2
  std::vector<unsigned char> side;      // [supernodes] depth % 2
  std::int64_t stack[2] = {0, 0};       // entries of the two stacks at their highest
  std::vector<std::int32_t> part_first, part_root;  // disjoint subtrees that solves go through apart, ascending
  std::int64_t factor_nnz = 0;          // entries of L, diagonal included, no stored zeros counted
  double flops = 0;                     // sum of squared column lengths of L
  double front_flops = 0;               // the same with the zeros that supernodes store
  std::int32_t largest_front = 0;

  std::int32_t supernodes() const { return static_cast<std::int32_t>(parent.size()); }
  std::int32_t columns(std::int32_t s) const { return first[s + 1] - first[s]; }
  std::int32_t below(std::int32_t s) const {
    return static_cast<std::int32_t>(row_start[s + 1] - row_start[s]);
  }
  std::int32_t rows(std::int32_t s) const { return columns(s) + below(s); }
  std::int64_t panel_entries() const { return panel.back(); }
  std::int64_t index_bytes() const {
    return 4 * (2 * static_cast<std::int64_t>(n) + 5 * supernodes() + 2 * row_start.back()) +
           8 * entry_start.back() + 41 * static_cast<std::int64_t>(supernodes());
  }
};

namespace detail {

// Row structures in ascending order and the places of A's entries, by one sweep over the rows of the
// permuted matrix: row i appears in every supernode on the paths from its entries to i.
template <class Index>
void fill_structure(Symbolic& s, const std::vector<std::int32_t>& of, const Index* start,
                    const Index* column) {
  const std::int32_t m = s.supernodes();
  std::vector<std::int64_t> filled(s.row_start.begin(), s.row_start.end() - 1);
  std::vector<std::int32_t> mark(m, -1);
  // Entries are counted per supernode first, then placed: two sweeps, no sorting.
  s.entry_start.assign(m + 1, 0);
  for (std::int32_t v = 0; v < s.n; ++v)
    for (std::int64_t e = start[v]; e < static_cast<std::int64_t>(start[v + 1]); ++e) {
      const std::int32_t k = s.position[column[e]];
      if (k <= s.position[v]) ++s.entry_start[of[k] + 1];
    }
  for (std::int32_t a = 0; a < m; ++a) s.entry_start[a + 1] += s.entry_start[a];
  std::vector<std::int64_t> next(s.entry_start.begin(), s.entry_start.end() - 1);
  s.entry_source.resize(s.entry_start[m]);
  s.entry_target.resize(s.entry_start[m]);
  for (std::int32_t i = 0; i < s.n; ++i) {
    const std::int32_t own = of[i], v = s.order[i];
    mark[own] = i;
    for (std::int64_t e = start[v]; e < static_cast<std::int64_t>(start[v + 1]); ++e) {
      const std::int32_t k = s.position[column[e]];
      if (k > i) continue;
      for (std::int32_t a = of[k]; mark[a] != i; a = s.parent[a]) {
        mark[a] = i;
        if (filled[a] == s.row_start[a + 1])
          throw std::logic_error("column counts disagree with the row structure");
        s.row[filled[a]++] = i;
      }
      const std::int32_t a = of[k];
      const std::int64_t local =
          a == own ? i - s.first[a] : s.columns(a) + (filled[a] - 1 - s.row_start[a]);
      s.entry_source[next[a]] = static_cast<std::int32_t>(e);
      s.entry_target[next[a]++] = static_cast<std::uint32_t>(
          static_cast<std::int64_t>(k - s.first[a]) * s.rows(a) + local);
    }
  }
  for (std::int32_t a = 0; a < m; ++a)
    if (filled[a] != s.row_start[a + 1])
      throw std::logic_error("column counts disagree with the row structure");
}

inline void fill_relative(Symbolic& s) {
  s.relative.resize(s.row.size());
  for (std::int32_t c = 0; c < s.supernodes(); ++c) {
    const std::int32_t p = s.parent[c];
    if (p < 0) continue;
    std::int64_t q = s.row_start[p];
    for (std::int64_t k = s.row_start[c]; k < s.row_start[c + 1]; ++k) {
      const std::int32_t i = s.row[k];
      if (i < s.first[p + 1]) {
        s.relative[k] = i - s.first[p];
        continue;
      }
      while (s.row[q] != i) ++q;
      s.relative[k] = static_cast<std::int32_t>(q - s.row_start[p]) + s.columns(p);
    }
  }
}

// Two stacks by parity of depth: a front's update is pushed on one while its children are popped off
// the other, so updates never move.
inline void plan_stacks(Symbolic& s) {
  const std::int32_t m = s.supernodes();
  s.side.assign(m, 0);
  s.stack_top.assign(m, 0);
  for (std::int32_t a = m - 1; a >= 0; --a)
    s.side[a] = s.parent[a] < 0 ? 0 : 1 - s.side[s.parent[a]];
  std::int64_t top[2] = {0, 0};
  for (std::int32_t a = 0; a < m; ++a) {
    const std::int64_t below = s.below(a);
    const int own = s.side[a];
    s.stack_top[a] = top[own];
    top[own] += below * below;
    s.stack[own] = std::max(s.stack[own], top[own]);
    if (s.child_start[a] < s.child_start[a + 1])
      top[1 - own] = s.stack_top[s.child[s.child_start[a]]];
  }
}

// Subtrees of about a sixteenth of the factor each, whatever the number of threads: the order in which a
// solve adds things up must not depend on that. Fronts above them come one after the other.
inline void plan_parts(Symbolic& s) {
  constexpr std::int64_t kWorth = 200000, kShare = 16;
  const std::int32_t m = s.supernodes();
  if (s.panel.back() < kWorth) return;
  std::vector<std::int64_t> weight(m, 0);
  std::vector<std::int32_t> leftmost(m), open, roots;
  for (std::int32_t a = 0; a < m; ++a) leftmost[a] = a;
  for (std::int32_t a = 0; a < m; ++a) {
    weight[a] += s.panel[a + 1] - s.panel[a] + 64;
    if (s.parent[a] < 0) {
      open.push_back(a);
      continue;
    }
    weight[s.parent[a]] += weight[a];
    leftmost[s.parent[a]] = std::min(leftmost[s.parent[a]], leftmost[a]);
  }
  while (!open.empty()) {
    const std::int32_t a = open.back();
    open.pop_back();
    if (weight[a] * kShare <= s.panel.back()) {
      roots.push_back(a);
      continue;
    }
    open.insert(open.end(), s.child.begin() + s.child_start[a], s.child.begin() + s.child_start[a + 1]);
  }
  std::sort(roots.begin(), roots.end());
  for (const std::int32_t a : roots) {
    s.part_first.push_back(leftmost[a]);
    s.part_root.push_back(a);
  }
}

}  // namespace detail

// Analyses the n x n symmetric CSR pattern under an elimination order (order[k] = row of A eliminated
// k-th). mates, if not empty, is [n]: mates[i] = j where rows i and j are adjacent in `order` and
// coupled by an entry of A, and shall be pivoted together; -1 elsewhere. joined, if not empty, is [n]
// by rows of A: a supernode that ends with such a row becomes part of its parent.
template <class Index>
Symbolic analyze(const Graph& g, const Index* start, const Index* column,
                 const std::vector<std::int32_t>& given, const std::vector<std::int32_t>& mates,
                 const std::vector<unsigned char>& joined = {}, const FrontCost& cost = {}) {
  Symbolic s;
  s.n = g.n;
  s.nnz = static_cast<std::int64_t>(start[g.n]);
  if (s.nnz > INT32_MAX)
    throw std::overflow_error("the pattern has " + std::to_string(s.nnz) +
                              " entries, more than 32-bit indices can number");
  check_permutation(given, g.n);

  std::vector<std::int32_t> order = given, position = inverse_permutation(order);
  std::vector<std::int32_t> parent = elimination_tree(g, order, position), favourite;
  if (!mates.empty()) {
    favourite.assign(g.n, -1);
    for (std::int32_t k = 1; k < g.n; ++k)
      if (mates[order[k]] == order[k - 1] && parent[k - 1] == k) favourite[k] = k - 1;
  }
  const std::vector<std::int32_t> post =
      postorder(Children(parent), favourite.empty() ? nullptr : &favourite);
  {
    std::vector<std::int32_t> renumbered(g.n), place = inverse_permutation(post), moved(g.n);
    for (std::int32_t k = 0; k < g.n; ++k) {
      renumbered[k] = order[post[k]];
      moved[k] = parent[post[k]] < 0 ? -1 : place[parent[post[k]]];
    }
    order.swap(renumbered);
    parent.swap(moved);
  }
  position = inverse_permutation(order);
  const std::vector<std::int32_t> count = column_counts(g, order, position, parent);
  for (const std::int32_t c : count) {
    s.factor_nnz += c;
    s.flops += static_cast<double>(c) * c;
  }
  std::vector<std::int32_t> mate_column;
  if (!mates.empty()) {
    mate_column.assign(g.n, -1);
    for (std::int32_t k = 1; k < g.n; ++k)
      if (mates[order[k]] == order[k - 1] && parent[k - 1] == k) mate_column[k] = k - 1;
  }
  std::vector<unsigned char> joined_column;
  if (!joined.empty()) {
    joined_column.resize(g.n);
    for (std::int32_t k = 0; k < g.n; ++k) joined_column[k] = joined[order[k]];
  }
  Supernodes found = find_supernodes(parent, count, mate_column, joined_column, cost);

  const std::int32_t m = static_cast<std::int32_t>(found.parent.size());
  s.order.resize(g.n);
  for (std::int32_t k = 0; k < g.n; ++k) s.order[k] = order[found.order[k]];
  s.position = inverse_permutation(s.order);
  s.first = std::move(found.first);
  s.parent = std::move(found.parent);
  Children tree(s.parent);
  s.child_start = std::move(tree.start);
  s.child = std::move(tree.child);
  s.row_start.assign(m + 1, 0);
  s.panel.assign(m + 1, 0);
  std::vector<std::int32_t> of(g.n);
  for (std::int32_t a = 0; a < m; ++a) {
    const std::int64_t rows = found.rows[a], columns = s.columns(a);
    s.row_start[a + 1] = s.row_start[a] + rows - columns;
    s.panel[a + 1] = s.panel[a] + rows * columns;
    if (rows * columns > UINT32_MAX)
      throw std::overflow_error("a front of " + std::to_string(rows) + " x " +
                                std::to_string(columns) + " entries overflows 32-bit offsets");
    s.front_flops += front_flops(static_cast<double>(rows), static_cast<double>(columns));
    s.largest_front = std::max(s.largest_front, found.rows[a]);
    std::fill(of.begin() + s.first[a], of.begin() + s.first[a + 1], a);
  }
  s.row.resize(s.row_start[m]);
  detail::fill_structure(s, of, start, column);
  detail::fill_relative(s);
  detail::plan_stacks(s);
  detail::plan_parts(s);
  return s;
}

}  // namespace torch_sla
