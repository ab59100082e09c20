// Structured multigrid: levels of stencils and their set-up.
#pragma once

#include "coarse.hpp"
#include "hierarchy.hpp"
#include "lattice_coarsen.hpp"
#include "lattice_lines.hpp"

namespace torch_sla::multigrid {

template <class V>
struct LatticeLevel {
  Stencil<V> A;
  Buffer<V> M;                          // [size] of the smoother x += M (f - A x)
  std::vector<LineFactor<V>> lines;     // instead of M where lines are smoothed
  std::vector<AxisWeights<V>> weights;  // in the order in which the axes are halved
};

struct LatticeOptions {
  int sweeps = 1;
  Cycle cycle = Cycle::V;
  bool lines = false;
  double most_contrary = 1.0;  // no levels are built where `contrary` is above
  int coarse_size = 200, max_levels = 30;
  double semicoarsening = 0.3;  // an axis is halved when its coupling is this share of the largest
};

template <class V>
struct LatticeHierarchy {
  LatticeOptions options;
  std::vector<LatticeLevel<V>> levels;
  Buffer<V> coarse_inverse;
  CoarseRank coarse_rank;
  double scale = 1.0;
  double contrary = 0.0;  // share of rows of the first level whose anisotropy differs from the average

  std::size_t bytes() const {
    std::size_t total = bytes_of(coarse_inverse);
    for (const auto& l : levels) {
      total += bytes_of(l.A.val) + bytes_of(l.M);
      for (const auto& w : l.weights) total += w.bytes();
      for (const auto& line : l.lines) total += line.bytes();
    }
    return total;
  }
};

// M of SPAI-0: a_ii over the sum of squares of the row; throws where a row has a zero diagonal. It is less where the sum
// of |M A| along the row does not prove that no error grows, as on flat hexahedra and where mass dominates.
template <class V>
void lattice_smoother(LatticeLevel<V>& l, int threads) {
  const auto& A = l.A;
  const std::int64_t n = A.shape.size(), chunks = chunks_of(n);
  const int count = A.entries.count, centre = A.entries.slot[13];
  l.M.resize(chunks * kLanes);
  std::vector<std::int64_t> bad(worker_count(chunks, threads), -1);
  parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t c = begin; c < end; ++c) {
      const V* a = A.chunk(c);
      V sum[kLanes] = {}, size[kLanes] = {};
      for (int k = 0; k < count; ++k) {
        prefetch(a + k * kLanes);
        for (int l2 = 0; l2 < kLanes; ++l2) {
          sum[l2] += a[k * kLanes + l2] * a[k * kLanes + l2];
          size[l2] += std::abs(a[k * kLanes + l2]);
        }
      }
      for (int l2 = 0; l2 < kLanes; ++l2) {
        const V own = a[centre * kLanes + l2], m = own != V(0) ? own / sum[l2] : V(0);
        const bool stable = std::abs(m) * size[l2] <= V(kStableBound);
        l.M[c * kLanes + l2] = stable ? m : std::copysign(V(kStableRadius) / size[l2], m);
        if (own == V(0) && sum[l2] > V(0) && bad[worker] < 0) bad[worker] = c * kLanes + l2;
      }
    }
  });
  for (const auto row : bad)
    if (row >= 0) throw std::domain_error("the diagonal of row " + std::to_string(row) + " is zero or singular");
}

template <class V>
void lattice_coarsest(LatticeHierarchy<V>& h) {
  const auto& A = h.levels.back().A;
  const int n = static_cast<int>(A.shape.size());
  const auto offsets = A.offsets();
  std::vector<double> dense(std::size_t(n) * n, 0.0);
  for (int i = 0; i < n; ++i)
    for (int k = 0; k < A.entries.count; ++k) {
      const V v = A.at(i, k);
      if (v != V(0)) dense[std::size_t(i) * n + i + offsets[k]] += v;
    }
  h.coarse_rank = invert_coarsest(dense, n, h.coarse_inverse);
}

// Factors of the lines along every axis that has more than one point.
template <class V>
std::vector<LineFactor<V>> all_lines(const Stencil<V>& A, int threads) {
  std::vector<LineFactor<V>> out;
  for (int axis = 0; axis < 3; ++axis)
    if (A.shape.n[axis] > 1) out.push_back(line_factor(A, axis, threads));
  return out;
}

template <class V>
void prepare_lattice_level(LatticeLevel<V>& l, const LatticeOptions& o, int threads) {
  lattice_smoother(l, threads);
  if (o.lines) l.lines = all_lines(l.A, threads);
}

// Copies a CSR matrix into the first level, scaled by the power of two that its first values suggest, and again where
// the others ask for another.
template <class T, class V, class I>
void load_lattice(LatticeHierarchy<V>& h, const Source<I>& source, const T* values, int threads) {
  threads = threads_for(source.crow[source.rows], threads);
  auto& A = h.levels.front().A;
  A.allocate(A.shape, A.entries);
  const std::int64_t first = std::min<std::int64_t>(source.rows, kChunk);
  h.scale = power_scale(values, std::int64_t(source.crow[first]), 1);
  const auto load = [&] { return load_stencil(source.crow, source.ccol, values, T(h.scale), A, threads); };
  const double wanted = power_for(load());
  if (wanted == h.scale) return;
  h.scale = wanted;
  load();
}

// The axes halved to get from one level to the next, with fresh weights and the coarse stencil.
template <class V>
void coarsen_lattice(LatticeLevel<V>& l, const std::vector<int>& axes, LatticeLevel<V>& next, int threads) {
  l.weights.clear();
  Stencil<V> current;
  const Stencil<V>* from = &l.A;
  for (const int axis : axes) {
    l.weights.push_back(axis_weights(*from, axis, threads));
    current = galerkin_axis(*from, l.weights.back(), threads);
    from = &current;
  }
  next.A = std::move(current);
}

template <class V>
int lattice_threads(const LatticeLevel<V>& l, int threads) {
  return threads_for(l.A.shape.size() * l.A.entries.count, threads);
}

// Levels below the first, whose stencil is in place. Those that are there already are made again, in their
// memory, where the numbers halve the same axes; with `keep`, they halve them whatever the numbers say.
template <class V>
void build_lattice(LatticeHierarchy<V>& h, int threads, bool keep = false) {
  for (std::size_t i = 0;; ++i) {
    auto& l = h.levels[i];
    const std::int64_t n = l.A.shape.size();
    const int t = lattice_threads(l, threads);
    prepare_lattice_level(l, h.options, t);
    if (n <= h.options.coarse_size || static_cast<int>(i) + 1 >= h.options.max_levels) {
      h.levels.resize(i + 1);
      l.weights.clear();
      if (n <= 4 * h.options.coarse_size) lattice_coarsest(h);
      else h.coarse_inverse = Buffer<V>();
      return;
    }
    std::array<bool, 3> halved{};
    for (const auto& w : l.weights) halved[w.axis] = true;
    const bool known = !l.weights.empty();
    if (!keep || !known || i == 0) {
      const Couplings strong = couplings(l.A, h.options.semicoarsening, halved, i == 0, t);
      if (i == 0) h.contrary = strong.contrary;
      if (!keep || !known) halved = strong.halved;
    }
    if (i == 0 && (!keep || !known) && h.contrary > h.options.most_contrary) {
      h.levels.resize(1);
      l.weights.clear();
      return;
    }
    std::vector<int> axes;
    for (int a = 0; a < 3; ++a)
      if (halved[a]) axes.push_back(a);
    if (i + 1 == h.levels.size()) h.levels.emplace_back();
    coarsen_lattice(h.levels[i], axes, h.levels[i + 1], t);
  }
}

// The shapes, patterns and halved axes of a hierarchy, without its numbers.
template <class V>
LatticeHierarchy<V> lattice_skeleton(const LatticeHierarchy<V>& h) {
  LatticeHierarchy<V> out;
  out.options = h.options;
  out.contrary = h.contrary;
  for (const auto& l : h.levels) {
    out.levels.emplace_back();
    auto& copy = out.levels.back();
    copy.A.shape = l.A.shape;
    copy.A.entries = l.A.entries;
    for (const auto& w : l.weights) {
      copy.weights.emplace_back();
      copy.weights.back().axis = w.axis;
    }
  }
  return out;
}

}  // namespace torch_sla::multigrid
