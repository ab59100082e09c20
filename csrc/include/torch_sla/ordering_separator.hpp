// Vertex separators of a graph: grown on the coarsest level, refined by moves on every finer one
// (C. M. Fiduccia, R. M. Mattheyses, DAC 1982; for separators: C. Ashcraft, J. W. H. Liu, SIAM J.
// Matrix Anal. Appl. 19, 325-354, 1998; B. Hendrickson, E. Rothberg, SIAM J. Sci. Comput. 20, 468-489, 1998).
#pragma once

#include <queue>

#include "ordering_coarsen.hpp"

namespace torch_sla {
namespace dissection {

constexpr std::int8_t kSeparator = 2;

// side[v] is 0, 1 or kSeparator; no edge joins sides 0 and 1. weight[k] is the sum over side k.
struct Partition {
  std::vector<std::int8_t> side;
  std::int64_t weight[3] = {0, 0, 0};

  void count(const Level& g) {
    weight[0] = weight[1] = weight[2] = 0;
    for (std::int32_t v = 0; v < g.n; ++v) weight[side[v]] += g.weight[v];
  }
  std::int64_t imbalance() const { return std::abs(weight[0] - weight[1]); }
};

// Smaller is better: first both parts below the bound, then a light separator, then balance.
struct Quality {
  std::int64_t excess, separator, imbalance;
  bool operator<(const Quality& other) const {
    if (excess != other.excess) return excess < other.excess;
    if (separator != other.separator) return separator < other.separator;
    return imbalance < other.imbalance;
  }
};

inline Quality quality(const Partition& p, std::int64_t bound) {
  const std::int64_t larger = std::max(p.weight[0], p.weight[1]);
  return {std::max<std::int64_t>(0, larger - bound), p.weight[kSeparator], p.imbalance()};
}

// Passes of moves out of the separator. Moving v to side s pulls v's neighbours on the other side in;
// the best state met in a pass is kept, so a pass may climb before it descends.
class Refiner {
 public:
  Refiner(const Level& g, Partition& p) : g_(g), p_(p) {
    for (auto& pull : pull_) pull.assign(g.n, 0);
    locked_.assign(g.n, 0);
    for (std::int32_t v = 0; v < g.n; ++v)
      if (p.side[v] == kSeparator) boundary_.push_back(v);
  }

  // Passes in one direction let the separator sweep across a part; they alternate until neither helps.
  void refine(int passes, std::int64_t bound) {
    int idle = 0;
    int to = p_.weight[0] <= p_.weight[1] ? 0 : 1;
    for (int pass = 0; pass < passes && idle < 2; ++pass, to = 1 - to)
      idle = run_pass(to, bound) ? 0 : idle + 1;
  }

 private:
  struct Candidate {
    std::int32_t gain;
    std::uint32_t age;
    std::int32_t vertex;
    bool operator<(const Candidate& o) const { return gain != o.gain ? gain < o.gain : age < o.age; }
  };

  // What the separator loses when v goes to side s.
  std::int32_t gain(std::int32_t v, int s) const { return g_.weight[v] - pull_[1 - s][v]; }

  void offer(std::int32_t v, int s) {
    heap_.push_back({gain(v, s), clock_++, v});
    std::push_heap(heap_.begin(), heap_.end());
  }

  void enter(std::int32_t v) {
    std::int32_t pull[3] = {0, 0, 0};
    for (std::int64_t e = g_.start[v]; e < g_.start[v + 1]; ++e) {
      const std::int32_t u = g_.neighbour[e];
      pull[p_.side[u]] += g_.weight[u];
    }
    pull_[0][v] = pull[0];
    pull_[1][v] = pull[1];
  }

  // Drops candidates that moved, or whose gain has changed since, from the top.
  bool settle(int s) {
    while (!heap_.empty()) {
      const Candidate& top = heap_.front();
      if (p_.side[top.vertex] == kSeparator && !locked_[top.vertex] && gain(top.vertex, s) == top.gain)
        return true;
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
    }
    return false;
  }

  bool run_pass(int s, std::int64_t bound) {
    heap_.clear();
    for (const std::int32_t v : boundary_) {
      enter(v);
      heap_.push_back({gain(v, s), clock_++, v});
    }
    std::make_heap(heap_.begin(), heap_.end());
    const std::size_t patience = std::min<std::size_t>(3 * boundary_.size() + 20, 400);
    const Quality initial = quality(p_, bound);
    Quality best = initial;
    log_.clear();
    moved_.clear();
    touched_ = boundary_;
    std::size_t best_length = 0, since = 0;
    while (since < patience && settle(s)) {
      const std::int32_t v = heap_.front().vertex;
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
      if (p_.weight[s] + g_.weight[v] > bound) continue;
      move(v, s);
      ++since;
      const Quality now = quality(p_, bound);
      if (now < best) best = now, best_length = log_.size(), since = 0;
    }
    for (std::size_t k = log_.size(); k > best_length; --k) {
      const auto& [v, was] = log_[k - 1];
      p_.weight[p_.side[v]] -= g_.weight[v];
      p_.weight[was] += g_.weight[v];
      p_.side[v] = was;
    }
    for (const std::int32_t v : moved_) locked_[v] = 0;
    boundary_.clear();
    for (const std::int32_t v : touched_)
      if (p_.side[v] == kSeparator && !locked_[v]) locked_[v] = 1, boundary_.push_back(v);
    for (const std::int32_t v : boundary_) locked_[v] = 0;
    return best < initial;
  }

  void shift(std::int32_t v, std::int8_t to) {
    log_.push_back({v, p_.side[v]});
    p_.weight[p_.side[v]] -= g_.weight[v];
    p_.weight[to] += g_.weight[v];
    p_.side[v] = to;
  }

  void move(std::int32_t v, int s) {
    shift(v, static_cast<std::int8_t>(s));
    locked_[v] = 1;
    moved_.push_back(v);
    for (std::int64_t e = g_.start[v]; e < g_.start[v + 1]; ++e) {
      const std::int32_t u = g_.neighbour[e];
      if (p_.side[u] == kSeparator) {
        pull_[s][u] += g_.weight[v];
      } else if (p_.side[u] == 1 - s) {
        shift(u, kSeparator);
        touched_.push_back(u);
        enter(u);
        if (!locked_[u]) offer(u, s);
        for (std::int64_t f = g_.start[u]; f < g_.start[u + 1]; ++f) {
          const std::int32_t t = g_.neighbour[f];
          if (p_.side[t] != kSeparator || t == u) continue;
          pull_[1 - s][t] -= g_.weight[u];
          if (!locked_[t]) offer(t, s);
        }
      }
    }
  }

  const Level& g_;
  Partition& p_;
  std::vector<std::int32_t> pull_[2];  // weight of a separator vertex's neighbours on either side
  std::vector<char> locked_;
  std::vector<Candidate> heap_;
  std::vector<std::pair<std::int32_t, std::int8_t>> log_;
  std::vector<std::int32_t> boundary_, moved_, touched_;
  std::uint32_t clock_ = 0;
};

// Grows side 0 from a random vertex breadth first until it holds half, then takes the lighter of the
// two boundaries as separator.
inline Partition grow(const Level& g, Random& random) {
  Partition p;
  p.side.assign(g.n, 1);
  std::vector<std::int32_t> queue;
  std::int64_t weight = 0;
  std::size_t head = 0;
  std::int32_t seed = static_cast<std::int32_t>(random.below(g.n));
  while (2 * weight < g.total) {
    if (head == queue.size()) {  // a component is exhausted: go on with any vertex left
      while (p.side[seed] == 0) seed = seed + 1 == g.n ? 0 : seed + 1;
      p.side[seed] = 0;
      weight += g.weight[seed];
      queue.push_back(seed);
      continue;
    }
    const std::int32_t v = queue[head++];
    for (std::int64_t e = g.start[v]; e < g.start[v + 1] && 2 * weight < g.total; ++e) {
      const std::int32_t u = g.neighbour[e];
      if (p.side[u] == 0) continue;
      p.side[u] = 0;
      weight += g.weight[u];
      queue.push_back(u);
    }
  }
  std::vector<std::int32_t> boundary[2];
  std::int64_t boundary_weight[2] = {0, 0};
  for (std::int32_t v = 0; v < g.n; ++v)
    for (std::int64_t e = g.start[v]; e < g.start[v + 1]; ++e)
      if (p.side[g.neighbour[e]] != p.side[v]) {
        boundary[p.side[v]].push_back(v);
        boundary_weight[p.side[v]] += g.weight[v];
        break;
      }
  for (const std::int32_t v : boundary[boundary_weight[1] < boundary_weight[0]]) p.side[v] = kSeparator;
  p.count(g);
  return p;
}

struct BisectionOptions {
  std::int32_t coarsest = 60;   // vertices where coarsening stops
  std::int32_t middle = 1000;   // up to here several hierarchies compete, above only the best goes on
  int tries = 3, starts = 2, passes = 8;
  double imbalance = 0.2;       // a part may exceed half of the total by this fraction
};

// Weight up to which a part is accepted.
inline std::int64_t part_bound(const Level& g, double imbalance) {
  std::int32_t heaviest = 0;
  for (const std::int32_t w : g.weight) heaviest = std::max(heaviest, w);
  return std::max(static_cast<std::int64_t>(0.5 * (1 + imbalance) * static_cast<double>(g.total)),
                  g.total / 2 + heaviest);
}

// Levels below `finest` until at most `enough` vertices are left or matching stalls.
inline std::vector<Level> coarsen(Level& finest, std::int32_t enough, std::int64_t heaviest, Random& random) {
  std::vector<Level> levels;
  levels.reserve(64);
  std::vector<std::int32_t> match;
  for (Level* current = &finest; current->n > enough && levels.size() < 60; current = &levels.back()) {
    check_interrupt();
    const std::int32_t count = match_vertices(*current, heaviest, random, match);
    if (count > current->n - current->n / 20) break;
    levels.push_back(contract(*current, match, count));
  }
  return levels;
}

// Carries a partition of the last level up to `finest`, refining on the way.
inline Partition uncoarsen(const Level& finest, const std::vector<Level>& levels, Partition p,
                           const BisectionOptions& options) {
  for (std::size_t k = levels.size(); k-- > 0;) {
    check_interrupt();
    const Level& fine = k == 0 ? finest : levels[k - 1];
    Partition projected;
    projected.side.resize(fine.n);
    for (std::int32_t v = 0; v < fine.n; ++v) projected.side[v] = p.side[fine.coarse[v]];
    for (int q = 0; q < 3; ++q) projected.weight[q] = p.weight[q];
    Refiner(fine, projected).refine(options.passes, part_bound(fine, options.imbalance));
    p = std::move(projected);
  }
  return p;
}

// Separator of `finest`: coarsen to the middle, let several hierarchies grown from there compete, and
// refine the best one back up.
inline Partition bisect(Level& finest, Random& random, const BisectionOptions& options) {
  const std::int64_t heaviest = std::max<std::int64_t>(2, 3 * finest.total / (2 * options.coarsest));
  const std::vector<Level> upper = coarsen(finest, options.middle, heaviest, random);
  Level* middle = upper.empty() ? &finest : const_cast<Level*>(&upper.back());
  const std::int64_t limit = part_bound(*middle, options.imbalance);
  Partition best;
  // Small parts decide little, and large ones can afford more attempts.
  const int tries = upper.empty() ? 1 : finest.n > 16 * options.middle ? 2 * options.tries : options.tries;
  for (int attempt = 0; attempt < tries; ++attempt) {
    const std::vector<Level> lower = coarsen(*middle, options.coarsest, heaviest, random);
    const Level& last = lower.empty() ? *middle : lower.back();
    const std::int64_t bound = part_bound(last, options.imbalance);
    Partition start;
    for (int k = 0; k < options.starts; ++k) {
      Partition p = grow(last, random);
      Refiner(last, p).refine(options.passes, bound);
      if (k == 0 || quality(p, bound) < quality(start, bound)) start = std::move(p);
    }
    start = uncoarsen(*middle, lower, std::move(start), options);
    if (attempt == 0 || quality(start, limit) < quality(best, limit)) best = std::move(start);
  }
  return uncoarsen(finest, upper, std::move(best), options);
}

}  // namespace dissection
}  // namespace torch_sla
