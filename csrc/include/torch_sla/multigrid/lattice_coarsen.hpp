// Coarsening a stencil along one axis at a time, with weights taken from the matrix.
//
// Even points stay; an odd point is interpolated from its two neighbours on the axis, with weights
// -a_- / a_0 and -a_+ / a_0 of the stencil summed over the other axes (Alcouffe, Brandt, Dendy and
// Painter 1981, in the one-dimensional form that composes). The Galerkin product with such a P keeps a
// stencil of 27 neighbours, so that halving all axes is a chain of at most three cheap products, and
// halving only the strongly coupled ones is semicoarsening.
#pragma once

#include "lattice.hpp"

namespace torch_sla::multigrid {

constexpr double kContrary = 0.05;

// Weights of the odd points of one axis: `low` of the coarse point before, `high` of the one after.
// Arrays have the shape of the lattice with that axis halved (rounded down), padded by `pad`.
template <class V>
struct AxisWeights {
  int axis = 0;
  Shape fine, coarse, odd;
  std::int64_t pad = 0;
  Buffer<V> low, high;

  std::size_t bytes() const { return bytes_of(low) + bytes_of(high); }
};

// Couplings along the axes: of each axis, the mean over the rows of |a_-| + |a_+| relative to the
// diagonal, with the stencil summed over the other axes. `contrary` is the share of rows whose own
// strongest axis is not halved, or that hardly couple along one that is.
struct Couplings {
  std::array<double, 3> mean{};
  std::array<bool, 3> halved{};
  double contrary = 0.0;
};

template <class V>
Couplings couplings(const Stencil<V>& A, double threshold, int threads) {
  const int count = A.entries.count, centre = A.entries.slot[13];
  const std::int64_t n = A.shape.size(), chunks = chunks_of(n);
  // Calls f(strength[3][kLanes]) for each chunk.
  const auto visit = [&](std::int64_t begin, std::int64_t end, auto&& f) {
    for (std::int64_t c = begin; c < end; ++c) {
      V side[6][kLanes] = {}, strength[3][kLanes];
      const V* a = A.chunk(c);
      for (int k = 0; k < count; ++k) {
        const auto d = Entries::step(A.entries.code[k]);
        for (int axis = 0; axis < 3; ++axis) {
          if (d[axis] == 0) continue;
          V* to = side[2 * axis + (d[axis] > 0)];
          for (int l = 0; l < kLanes; ++l) to[l] += a[k * kLanes + l];
        }
      }
      for (int axis = 0; axis < 3; ++axis)
        for (int l = 0; l < kLanes; ++l) {
          const V own = std::abs(a[centre * kLanes + l]);
          strength[axis][l] =
              own > V(0) ? (std::abs(side[2 * axis][l]) + std::abs(side[2 * axis + 1][l])) / own : V(0);
        }
      f(strength);
    }
  };
  Couplings out;
  const int workers = worker_count(chunks, threads);
  std::vector<std::array<double, 3>> sums(workers);
  std::vector<double> wrong(workers, 0.0);
  parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    std::array<double, 3> sum{};
    visit(begin, end, [&](const auto& strength) {
      for (int axis = 0; axis < 3; ++axis) {
        V part = 0;
        for (int l = 0; l < kLanes; ++l) part += strength[axis][l];
        sum[axis] += double(part);
      }
    });
    sums[worker] = sum;
  });
  double most = 0.0;
  for (int axis = 0; axis < 3; ++axis) {
    for (const auto& s : sums) out.mean[axis] += s[axis] / double(n);
    if (A.shape.n[axis] > 1) most = std::max(most, out.mean[axis]);
  }
  for (int axis = 0; axis < 3; ++axis)
    out.halved[axis] = A.shape.n[axis] > 1 && out.mean[axis] >= threshold * most;
  parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    double total = 0.0;
    visit(begin, end, [&](const auto& strength) {
      for (int l = 0; l < kLanes; ++l) {
        const V largest = std::max({strength[0][l], strength[1][l], strength[2][l]});
        bool contrary = false;
        for (int axis = 0; axis < 3; ++axis)
          contrary |= A.shape.n[axis] > 1 && (out.halved[axis] ? strength[axis][l] < V(kContrary) * largest
                                                               : strength[axis][l] == largest && largest > V(0));
        total += contrary;
      }
    });
    wrong[worker] = total;
  });
  for (const double w : wrong) out.contrary += w / double(n);
  return out;
}

template <class V>
AxisWeights<V> axis_weights(const Stencil<V>& A, int axis, int threads) {
  AxisWeights<V> w;
  w.axis = axis;
  w.fine = w.coarse = w.odd = A.shape;
  w.coarse.n[axis] = (A.shape.n[axis] + 1) / 2;
  w.odd.n[axis] = A.shape.n[axis] / 2;
  w.pad = w.odd.pad();
  w.low.assign(w.odd.size() + 2 * w.pad, V(0));
  w.high.assign(w.odd.size() + 2 * w.pad, V(0));
  const int count = A.entries.count;
  std::array<int, 27> side{};
  for (int k = 0; k < count; ++k) side[k] = Entries::step(A.entries.code[k])[axis];
  const std::int64_t stride = A.shape.stride(axis);
  const int centre = A.entries.slot[13];
  parallel_for(w.odd.size(), threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t o = begin; o < end; ++o) {
      // position on the odd lattice -> point of the fine lattice
      const std::int64_t inner = o % stride, rest = o / stride;
      const std::int64_t line = rest / w.odd.n[axis], j = rest % w.odd.n[axis];
      const std::int64_t i = (line * A.shape.n[axis] + 2 * j + 1) * stride + inner;
      V sum[3] = {0, 0, 0};
      for (int k = 0; k < count; ++k) sum[side[k] + 1] += A.at(i, k);
      const V own = A.at(i, centre);
      if (!(sum[1] * own > V(1e-3) * own * own)) sum[1] = own;
      if (sum[1] == V(0)) continue;
      w.low[w.pad + o] = -sum[0] / sum[1];
      w.high[w.pad + o] = -sum[2] / sum[1];
    }
  });
  return w;
}

// C = P^T A P for the P of one axis.
template <class V>
Stencil<V> galerkin_axis(const Stencil<V>& A, const AxisWeights<V>& w, int threads) {
  const int axis = w.axis;
  const int unit = axis == 0 ? 1 : axis == 1 ? 3 : 9;
  std::array<bool, 27> present{};
  std::vector<int> across;  // the neighbours with no step along the axis, or that a step leads to
  for (int code = 0; code < 27; ++code) {
    if (Entries::step(code)[axis] != 0) continue;
    bool any = false;
    for (int t = -1; t <= 1; ++t) any |= A.entries.slot[code + t * unit] >= 0;
    if (!any) continue;
    across.push_back(code);
    for (int t = -1; t <= 1; ++t) present[code + t * unit] = t == 0 || w.coarse.n[axis] > 1;
  }
  Stencil<V> C;
  C.allocate(w.coarse, Entries::of(present));
  std::fill(C.val.end() - C.entries.count * kLanes, C.val.end(), V(0));
  const std::int64_t stride = A.shape.stride(axis), n = A.shape.n[axis], nodd = w.odd.n[axis];
  const int count = A.entries.count;
  const bool single = w.coarse.n[axis] == 1;
  parallel_for(chunks_of(w.coarse.size()), threads, [&](std::int64_t first, std::int64_t last, int) {
    for (std::int64_t g = first * kLanes; g < std::min(last * kLanes, w.coarse.size()); ++g) {
      const std::int64_t inner = g % stride, rest = g / stride;
      const std::int64_t line = rest / w.coarse.n[axis], X = rest % w.coarse.n[axis];
      const std::int64_t even = (line * n + 2 * X) * stride + inner;
      const std::int64_t before = w.pad + (line * nodd + X - 1) * stride + inner;  // odd point 2X-1
      const std::int64_t after = before + stride;                                  // odd point 2X+1
      const bool has_before = X > 0, has_after = 2 * X + 1 < n;
      const V from_before = has_before ? w.high[before] : V(0);
      const V from_after = has_after ? w.low[after] : V(0);
      const auto chunk_at = [&](std::int64_t i) { return A.val.data() + (i / kLanes) * count * kLanes + i % kLanes; };
      const V* row = chunk_at(even);
      const V* row_before = has_before ? chunk_at(even - stride) : nullptr;
      const V* row_after = has_after ? chunk_at(even + stride) : nullptr;
      V* out = C.val.data() + (g / kLanes) * C.entries.count * kLanes + g % kLanes;
      for (const int code : across) {
        const int sl = A.entries.slot[code - unit], s0 = A.entries.slot[code], sh = A.entries.slot[code + unit];
        const std::int64_t shift = Entries::offset(code, w.odd);
        const auto entry = [](const V* r, int s) { return r && s >= 0 ? r[s * kLanes] : V(0); };
        // Rows of A P: the even point, then the odd points before and after it.
        const V el = entry(row, sl), e0 = entry(row, s0), eh = entry(row, sh);
        V low = 0, mid = e0, high = 0;
        if (has_before) {
          const V wl = w.low[before + shift], wh = w.high[before + shift];
          low += el * wl;
          mid += el * wh;
          const V bl = entry(row_before, sl), b0 = entry(row_before, s0), bh = entry(row_before, sh);
          low += from_before * (bl + b0 * wl);
          mid += from_before * (bh + b0 * wh);
        }
        if (has_after) {
          const V wl = w.low[after + shift], wh = w.high[after + shift];
          mid += eh * wl;
          high += eh * wh;
          const V al = entry(row_after, sl), a0 = entry(row_after, s0), ah = entry(row_after, sh);
          mid += from_after * (al + a0 * wl);
          high += from_after * (ah + a0 * wh);
        }
        out[C.entries.slot[code] * kLanes] = mid;
        if (single) continue;
        out[C.entries.slot[code - unit] * kLanes] = low;
        out[C.entries.slot[code + unit] * kLanes] = high;
      }
    }
  });
  return C;
}

}  // namespace torch_sla::multigrid
