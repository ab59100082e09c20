// Supernodes: columns of the factor that share one row structure, and the merging that makes them
// wide enough for dense kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cholesky_tree.hpp"

namespace torch_sla {

// Flops (multiplications and additions of a Cholesky factorisation, sum of squared column lengths)
// of a front with `columns` eliminated out of `rows`.
inline double front_flops(double rows, double columns) {
  const double rest = rows - columns;  // sum over lengths rest+1 .. rows
  return (rows * (rows + 1) * (2 * rows + 1) - rest * (rest + 1) * (2 * rest + 1)) / 6;
}

// Entries of the trapezoid kept for such a front.
inline double front_entries(double rows, double columns) {
  return columns * rows - columns * (columns - 1) / 2;
}

// What merging is decided by: seconds of a front on one thread, as three numbers. Only their ratios
// matter; they were fitted to fronts of 2D and 3D meshes.
struct FrontCost {
  double per_front = 6e-7, per_entry = 1.2e-9, per_flop = 1.5e-10, per_update = 1.0e-9;
  double front(double rows, double columns) const {
    return per_front + per_entry * front_entries(rows, columns) +
           per_flop * front_flops(rows, columns);
  }
  double update(double rows) const { return per_update * rows * rows / 2; }
};

struct Supernodes {
  std::vector<std::int32_t> order;   // [n] column -> column of the postordered matrix it was
  std::vector<std::int32_t> first;   // [count+1] first column of each
  std::vector<std::int32_t> rows;    // [count] rows of its front, own columns included
  std::vector<std::int32_t> parent;  // [count] -1 at a root
};

// Cuts postordered columns into fundamental supernodes and merges a child into its parent where the
// model says that the work saved (a front, an update to assemble) pays for the zeros stored, or where
// `mate[j]` = j-1 asks that two columns be pivoted together, or where `joined[j]` asks that the supernode
// that ends with column j stay with its parent (either may be empty: no such wish).
// parent and count are those of the columns; the result is postordered again, deepest stacks first.
inline Supernodes find_supernodes(const std::vector<std::int32_t>& parent,
                                  const std::vector<std::int32_t>& count,
                                  const std::vector<std::int32_t>& mate,
                                  const std::vector<unsigned char>& joined, const FrontCost& cost) {
  const std::int32_t n = static_cast<std::int32_t>(parent.size());
  std::vector<std::int32_t> children(n, 0), begin, of(n);
  for (std::int32_t j = 0; j < n; ++j)
    if (parent[j] >= 0) ++children[parent[j]];
  for (std::int32_t j = 0; j < n; ++j) {
    const bool extends = j > 0 && parent[j - 1] == j && count[j - 1] == count[j] + 1 && children[j] == 1;
    if (!extends) begin.push_back(j);
    of[j] = static_cast<std::int32_t>(begin.size()) - 1;
  }
  const std::int32_t m = static_cast<std::int32_t>(begin.size());
  begin.push_back(n);
  std::vector<std::int32_t> up(m, -1), columns(m), rows(m), into(m);
  std::vector<double> zeros(m, 0.0);
  std::vector<char> forced(m, 0);
  for (std::int32_t s = 0; s < m; ++s) {
    into[s] = s;
    columns[s] = begin[s + 1] - begin[s];
    rows[s] = count[begin[s]];
    const std::int32_t p = parent[begin[s + 1] - 1];
    up[s] = p < 0 ? -1 : of[p];
    if (!mate.empty() && s > 0 && mate[begin[s]] == begin[s] - 1) forced[s - 1] = 1;
    if (!joined.empty() && joined[begin[s + 1] - 1]) forced[s] = 1;
  }

  // Children before parents, so each child is final when its parent looks at it.
  const Children tree(up);
  std::vector<std::vector<std::int32_t>> absorbed(m);
  std::vector<std::int32_t> candidates;
  for (std::int32_t p = 0; p < m; ++p) {
    candidates.assign(tree.child.begin() + tree.start[p], tree.child.begin() + tree.start[p + 1]);
    std::sort(candidates.begin(), candidates.end(), [&](std::int32_t a, std::int32_t b) {
      const std::int32_t za = rows[a] - columns[a], zb = rows[b] - columns[b];
      if (forced[a] != forced[b]) return forced[a] > forced[b];
      return za != zb ? za > zb : a > b;
    });
    for (const std::int32_t c : candidates) {
      const double nc = columns[c] + columns[p], nr = rows[p] + columns[c];
      const double entries = front_entries(nr, nc);
      const double fill = zeros[c] + zeros[p] + entries - front_entries(rows[c], columns[c]) -
                          front_entries(rows[p], columns[p]);
      if (!forced[c]) {
        const double apart = cost.front(rows[c], columns[c]) + cost.front(rows[p], columns[p]) +
                             cost.update(rows[c] - columns[c]);
        const double limit = nc <= 16 ? 0.6 : nc <= 64 ? 0.25 : 0.1;
        if (fill > limit * entries || cost.front(nr, nc) >= apart) continue;
      }
      zeros[p] = fill;
      columns[p] = static_cast<std::int32_t>(nc);
      rows[p] = static_cast<std::int32_t>(nr);
      into[c] = p;
      absorbed[p].push_back(c);
    }
  }

  // The tree that is left, each node's children ordered so that the stack of updates stays low (Liu
  // 1986): by decreasing (peak while the subtree works - what it leaves behind).
  const auto find = [&](std::int32_t s) {
    while (into[s] != s) s = into[s];
    return s;
  };
  std::vector<std::int32_t> alive, number(m, -1);
  for (std::int32_t s = 0; s < m; ++s)
    if (into[s] == s) number[s] = static_cast<std::int32_t>(alive.size()), alive.push_back(s);
  const std::int32_t count_alive = static_cast<std::int32_t>(alive.size());
  std::vector<std::int32_t> merged_up(count_alive);
  for (std::int32_t a = 0; a < count_alive; ++a)
    merged_up[a] = up[alive[a]] < 0 ? -1 : number[find(up[alive[a]])];
  Children merged(merged_up);
  std::vector<double> peak(count_alive), left(count_alive);
  const auto deeper = [&](std::int32_t a, std::int32_t b) {
    const double da = peak[a] - left[a], db = peak[b] - left[b];
    return da != db ? da > db : a < b;
  };
  for (std::int32_t a = 0; a < count_alive; ++a) {
    auto* from = merged.child.data() + merged.start[a];
    auto* to = merged.child.data() + merged.start[a + 1];
    std::sort(from, to, deeper);
    const double rest = rows[alive[a]] - columns[alive[a]];
    double held = 0;
    peak[a] = 0;
    for (auto* c = from; c != to; ++c) {
      peak[a] = std::max(peak[a], held + peak[*c]);
      held += left[*c];
    }
    left[a] = rest * rest;
    peak[a] = std::max(peak[a], held + left[a]);
  }
  const std::vector<std::int32_t> post = postorder(merged);

  Supernodes result;
  result.order.reserve(n);
  result.first.reserve(count_alive + 1);
  std::vector<std::int32_t> rank(count_alive), pending, gathered;
  for (std::int32_t k = 0; k < count_alive; ++k) rank[post[k]] = k;
  for (const std::int32_t a : post) {
    result.first.push_back(static_cast<std::int32_t>(result.order.size()));
    pending.assign(1, alive[a]);
    gathered.clear();
    while (!pending.empty()) {
      const std::int32_t s = pending.back();
      pending.pop_back();
      gathered.push_back(s);
      pending.insert(pending.end(), absorbed[s].begin(), absorbed[s].end());
    }
    std::sort(gathered.begin(), gathered.end());  // descendants have smaller numbers
    for (const std::int32_t s : gathered)
      for (std::int32_t j = begin[s]; j < begin[s + 1]; ++j) result.order.push_back(j);
    result.rows.push_back(rows[alive[a]]);
    result.parent.push_back(merged_up[a] < 0 ? -1 : rank[merged_up[a]]);
  }
  result.first.push_back(n);
  return result;
}

}  // namespace torch_sla
