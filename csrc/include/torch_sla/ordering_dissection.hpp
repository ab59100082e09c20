// Nested dissection: separators last, recursively, minimum degree on the small parts that remain
// (A. George, SIAM J. Numer. Anal. 10, 345-363, 1973; multilevel: B. Hendrickson, E. Rothberg 1998).
#pragma once

#include "ordering_amd.hpp"
#include "ordering_separator.hpp"
#include "parallel.hpp"

namespace torch_sla {

struct DissectionOptions {
  std::int32_t leaf = 300;  // parts of at most this many vertices go to minimum degree
  dissection::BisectionOptions bisection;
};

namespace dissection {

// A part of the graph under dissection: its own level, and the vertices of the input it stands for.
struct Part {
  Level graph;
  std::vector<std::int32_t> vertex;
};

inline Part extract(const Part& whole, const std::vector<std::int8_t>& side, std::int8_t which,
                    std::vector<std::int32_t>& local) {
  Part part;
  for (std::int32_t v = 0; v < whole.graph.n; ++v)
    if (side[v] == which) {
      local[v] = part.graph.n++;
      part.vertex.push_back(whole.vertex[v]);
      part.graph.weight.push_back(whole.graph.weight[v]);
      part.graph.total += whole.graph.weight[v];
    }
  part.graph.start.reserve(part.graph.n + 1);
  part.graph.start.push_back(0);
  for (std::int32_t v = 0; v < whole.graph.n; ++v) {
    if (side[v] != which) continue;
    for (std::int64_t e = whole.graph.start[v]; e < whole.graph.start[v + 1]; ++e)
      if (side[whole.graph.neighbour[e]] == which)
        part.graph.neighbour.push_back(local[whole.graph.neighbour[e]]);
    part.graph.start.push_back(static_cast<std::int64_t>(part.graph.neighbour.size()));
  }
  part.graph.edge.assign(part.graph.neighbour.size(), 1);
  return part;
}

inline void order_leaf(const Part& part, std::int32_t* order) {
  Graph g;
  g.n = part.graph.n;
  g.start = part.graph.start;
  g.neighbour = part.graph.neighbour;
  const std::vector<std::int32_t> inner = amd_ordering(g);
  for (std::int32_t k = 0; k < g.n; ++k) order[k] = part.vertex[inner[k]];
}

// Writes the elimination order of `part` to order[0 .. part.graph.n).
inline void dissect(Part part, std::uint64_t path, const DissectionOptions& options, int threads,
                    std::int32_t* order) {
  check_interrupt();
  const std::int32_t n = part.graph.n;
  if (n <= options.leaf) return order_leaf(part, order);
  Random random(path);
  const Partition p = bisect(part.graph, random, options.bisection);
  std::int32_t size[3] = {0, 0, 0};
  for (const std::int8_t side : p.side) ++size[side];
  if (size[0] == 0 || size[1] == 0) return order_leaf(part, order);  // nothing separates it: dense
  std::int32_t* last = order + size[0] + size[1];
  for (std::int32_t v = 0; v < n; ++v)
    if (p.side[v] == kSeparator) *last++ = part.vertex[v];
  std::vector<std::int32_t> local(n);
  Part halves[2] = {extract(part, p.side, 0, local), extract(part, p.side, 1, local)};
  part = Part();
  std::int32_t* target[2] = {order, order + size[0]};
  const int workers = threads > 1 && n > 20000 ? 2 : 1;
  parallel_for(2, workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t k = begin; k < end; ++k)
      dissect(std::move(halves[k]), 2 * path + 1 + static_cast<std::uint64_t>(k), options,
              threads / workers, target[k]);
  });
}

}  // namespace dissection

// Elimination order of the graph: order[k] is the vertex eliminated k-th. The same for any number of
// threads.
inline std::vector<std::int32_t> nested_dissection(const Graph& g, int threads = 1,
                                                   const DissectionOptions& options = {}) {
  using namespace dissection;
  std::vector<std::int32_t> order(g.n);
  Part whole;
  whole.graph.n = g.n;
  whole.graph.start = g.start;
  whole.graph.neighbour = g.neighbour;
  whole.graph.edge.assign(g.neighbour.size(), 1);
  whole.graph.weight = g.weight;
  if (g.weight.empty()) whole.graph.weight.assign(g.n, 1);
  for (const std::int32_t w : whole.graph.weight) whole.graph.total += w;
  whole.vertex.resize(g.n);
  std::iota(whole.vertex.begin(), whole.vertex.end(), 0);
  if (g.n > 0) dissect(std::move(whole), 1, options, threads, order.data());
  return order;
}

}  // namespace torch_sla
