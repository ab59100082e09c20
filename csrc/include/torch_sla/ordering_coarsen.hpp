// Coarsening of a weighted graph by matching (B. Hendrickson, R. Leland, Supercomputing '95;
// G. Karypis, V. Kumar, SIAM J. Sci. Comput. 20, 359-392, 1998).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "interrupt.hpp"

namespace torch_sla {
namespace dissection {

// xorshift64*: small, seedable, the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull) {}
  std::uint32_t below(std::uint32_t n) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 33) % n;
  }

 private:
  std::uint64_t state_;
};

// A graph of one level of the hierarchy: vertex and edge weights count what was merged into them.
struct Level {
  std::int32_t n = 0;
  std::vector<std::int64_t> start;
  std::vector<std::int32_t> neighbour, edge, weight;
  std::int64_t total = 0;               // of the vertex weights
  std::vector<std::int32_t> coarse;     // [n] vertex of the next level, once coarsened

  std::int32_t degree(std::int32_t v) const { return static_cast<std::int32_t>(start[v + 1] - start[v]); }
};

// match[v] = partner (v itself where alone). Each vertex, poor ones first, takes the free neighbour
// behind its heaviest edge; those left alone are paired through a common neighbour, so that stars and
// hubs coarsen too. No vertex grows beyond `heaviest`.
inline std::int32_t match_vertices(const Level& g, std::int64_t heaviest, Random& random,
                                   std::vector<std::int32_t>& match) {
  match.assign(g.n, -1);
  std::vector<std::int32_t> visit(g.n), bucket(66, 0);
  const auto rank = [&](std::int32_t v) { return std::min(g.degree(v), 64); };
  for (std::int32_t v = 0; v < g.n; ++v) ++bucket[rank(v) + 1];
  std::partial_sum(bucket.begin(), bucket.end(), bucket.begin());
  std::vector<std::int32_t> shuffled(g.n);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  for (std::int32_t k = g.n - 1; k > 0; --k)
    std::swap(shuffled[k], shuffled[random.below(static_cast<std::uint32_t>(k) + 1)]);
  for (const std::int32_t v : shuffled) visit[bucket[rank(v)]++] = v;

  std::int32_t coarse = 0;
  for (const std::int32_t v : visit) {
    if (match[v] >= 0) continue;
    std::int32_t best = v, heavy = 0;
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e) {
      const std::int32_t u = g.neighbour[e];
      if (match[u] < 0 && g.edge[e] > heavy &&
          static_cast<std::int64_t>(g.weight[u]) + g.weight[v] <= heaviest)
        heavy = g.edge[e], best = u;
    }
    if (best == v) continue;  // perhaps later, through a common neighbour
    match[v] = best;
    match[best] = v;
    ++coarse;
  }
  std::vector<std::int32_t> waiting;
  for (std::int32_t hub = 0; hub < g.n && g.n - 2 * coarse > g.n / 10; ++hub) {
    std::int32_t lonely = -1;
    for (std::int64_t e = g.start[hub]; e < g.start[hub + 1]; ++e) {
      const std::int32_t v = g.neighbour[e];
      if (match[v] >= 0) continue;
      if (lonely < 0) {
        lonely = v;
      } else if (static_cast<std::int64_t>(g.weight[v]) + g.weight[lonely] <= heaviest) {
        match[v] = lonely;
        match[lonely] = v;
        lonely = -1;
        ++coarse;
      }
    }
  }
  for (std::int32_t v = 0; v < g.n; ++v)
    if (match[v] < 0) match[v] = v, ++coarse;
  return coarse;
}

// Merges matched vertices; parallel edges add their weights.
inline Level contract(Level& fine, const std::vector<std::int32_t>& match, std::int32_t count) {
  Level g;
  g.n = count;
  g.total = fine.total;
  g.start.reserve(count + 1);
  g.weight.reserve(count);
  g.neighbour.resize(fine.neighbour.size());
  g.edge.resize(fine.neighbour.size());
  fine.coarse.resize(fine.n);
  std::int32_t next = 0;
  for (std::int32_t v = 0; v < fine.n; ++v)
    if (match[v] >= v) fine.coarse[v] = fine.coarse[match[v]] = next++;
  std::vector<std::int64_t> place(count, -1);
  std::int64_t filled = 0;
  for (std::int32_t v = 0; v < fine.n; ++v) {
    if (match[v] < v) continue;
    const std::int32_t own = fine.coarse[v];
    const std::int64_t begin = filled;
    g.start.push_back(begin);
    g.weight.push_back(fine.weight[v] + (match[v] != v ? fine.weight[match[v]] : 0));
    for (std::int32_t member = v;; member = match[v]) {
      for (std::int64_t e = fine.start[member]; e < fine.start[member + 1]; ++e) {
        const std::int32_t u = fine.coarse[fine.neighbour[e]];
        if (u == own) continue;
        if (place[u] >= begin) {
          g.edge[place[u]] += fine.edge[e];
        } else {
          place[u] = filled;
          g.neighbour[filled] = u;
          g.edge[filled++] = fine.edge[e];
        }
      }
      if (member == match[v]) break;
    }
  }
  g.start.push_back(filled);
  g.neighbour.resize(filled);
  g.edge.resize(filled);
  return g;
}

}  // namespace dissection
}  // namespace torch_sla
