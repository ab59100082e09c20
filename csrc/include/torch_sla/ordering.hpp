// Fill-reducing orderings: minimum degree or nested dissection, on the graph or on a quotient of it in
// which vertices that belong together are one.
#pragma once

#include <utility>

#include "ordering_dissection.hpp"

namespace torch_sla {

enum class Ordering { natural, amd, dissection };

// Vertices in groups, in the order of their first member, and the graph of the groups.
struct Quotient {
  std::vector<std::int32_t> member_start, member;
  Graph graph;
};

// group[v] numbers the groups 0 .. count-1 in the order of their first member.
inline Quotient quotient(const Graph& g, const std::vector<std::int32_t>& group, std::int32_t count) {
  Quotient q;
  q.member_start.assign(count + 1, 0);
  for (const std::int32_t k : group) ++q.member_start[k + 1];
  for (std::int32_t k = 0; k < count; ++k) q.member_start[k + 1] += q.member_start[k];
  q.member.resize(g.n);
  std::vector<std::int32_t> next(q.member_start.begin(), q.member_start.end() - 1), seen(count, -1);
  for (std::int32_t v = 0; v < g.n; ++v) q.member[next[group[v]]++] = v;
  q.graph.n = count;
  q.graph.start.push_back(0);
  for (std::int32_t k = 0; k < count; ++k) {
    seen[k] = k;
    for (std::int32_t m = q.member_start[k]; m < q.member_start[k + 1]; ++m) {
      const std::int32_t v = q.member[m];
      for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) {
        const std::int32_t other = group[g.neighbour[e]];
        if (seen[other] == k) continue;
        seen[other] = k;
        q.graph.neighbour.push_back(other);
      }
    }
    q.graph.start.push_back(static_cast<std::int64_t>(q.graph.neighbour.size()));
    q.graph.weight.push_back(q.member_start[k + 1] - q.member_start[k]);
  }
  return q;
}

// Groups of vertices with one closed neighbourhood (the unknowns of a node, for instance): found by a
// sum over the neighbourhood, confirmed by comparing. Returns the number of groups.
inline std::int32_t indistinguishable(const Graph& g, std::vector<std::int32_t>& group) {
  std::vector<std::uint64_t> key(g.n);
  const auto spread = [](std::int32_t v) {
    std::uint64_t x = (static_cast<std::uint64_t>(v) + 1) * 0x9E3779B97F4A7C15ull;
    return (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9ull;
  };
  for (std::int32_t v = 0; v < g.n; ++v) {
    std::uint64_t sum = spread(v);
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) sum += spread(g.neighbour[e]);
    key[v] = sum;
  }
  group.assign(g.n, -1);
  std::vector<std::int32_t> mark(g.n, -1);
  std::int32_t count = 0;
  // Members are neighbours of each other, so looking along the edges finds them without sorting.
  for (std::int32_t v = 0; v < g.n; ++v) {
    if (group[v] >= 0) continue;
    group[v] = count++;
    bool marked = false;
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) {
      const std::int32_t u = g.neighbour[e];
      if (group[u] >= 0 || key[u] != key[v] ||
          g.start[u + 1] - g.start[u] != g.start[v + 1] - g.start[v])
        continue;
      if (!marked) {
        marked = true;
        mark[v] = v;
        for (std::int64_t f = g.start[v]; f < g.start[v + 1]; ++f) mark[g.neighbour[f]] = v;
      }
      bool same = true;
      for (std::int64_t f = g.start[u]; f < g.start[u + 1] && same; ++f)
        same = mark[g.neighbour[f]] == v;
      if (same) group[u] = group[v];
    }
  }
  return count;
}

inline std::vector<std::int32_t> order_graph(const Graph& g, Ordering method, int threads) {
  if (method == Ordering::dissection) return nested_dissection(g, threads);
  if (method == Ordering::amd) return amd_ordering(g);
  std::vector<std::int32_t> order(g.n);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Elimination order; order[k] is the vertex eliminated k-th. mates (empty, or [n] with -1 for none)
// names pairs that come out adjacent. Indistinguishable vertices are dissected as one.
inline std::vector<std::int32_t> order_vertices(const Graph& g, Ordering method,
                                                const std::vector<std::int32_t>& mates, int threads = 1) {
  std::vector<std::int32_t> group;
  std::int32_t count = g.n;
  if (!mates.empty()) {
    group.assign(g.n, -1);
    count = 0;
    for (std::int32_t v = 0; v < g.n; ++v) {
      if (group[v] >= 0) continue;
      group[v] = count;
      if (mates[v] >= 0 && mates[mates[v]] == v) group[mates[v]] = count;
      ++count;
    }
  } else if (method == Ordering::dissection) {
    count = indistinguishable(g, group);
    if (count > g.n - g.n / 6) count = g.n;  // not worth the detour
  }
  if (count == g.n) return order_graph(g, method, threads);
  const Quotient q = quotient(g, group, count);
  std::vector<std::int32_t> order;
  order.reserve(g.n);
  for (const std::int32_t k : order_graph(q.graph, method, threads))
    for (std::int32_t m = q.member_start[k]; m < q.member_start[k + 1]; ++m) order.push_back(q.member[m]);
  return order;
}

}  // namespace torch_sla
