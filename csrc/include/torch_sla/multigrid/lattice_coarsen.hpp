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

// Couplings of the rows of one chunk: strength[axis][lane].
template <class V>
inline void chunk_couplings(const V* a, const Entries& e, V (&strength)[3][kLanes]) {
  V side[6][kLanes] = {};
  for (int k = 0; k < e.count; ++k) {
    const auto d = Entries::step(e.code[k]);
    prefetch(a + k * kLanes);
    for (int axis = 0; axis < 3; ++axis) {
      if (d[axis] == 0) continue;
      V* to = side[2 * axis + (d[axis] > 0)];
      for (int l = 0; l < kLanes; ++l) to[l] += a[k * kLanes + l];
    }
  }
  const V* diagonal = a + e.slot[13] * kLanes;
  for (int axis = 0; axis < 3; ++axis)
    for (int l = 0; l < kLanes; ++l) {
      const V own = std::abs(diagonal[l]);
      strength[axis][l] =
          own > V(0) ? (std::abs(side[2 * axis][l]) + std::abs(side[2 * axis + 1][l])) / own : V(0);
    }
}

// How many rows of a chunk are contrary to halving these axes.
template <class V>
inline int contrary_rows(const V (&strength)[3][kLanes], const Shape& shape, const std::array<bool, 3>& halved) {
  int total = 0;
  for (int l = 0; l < kLanes; ++l) {
    const V largest = std::max({strength[0][l], strength[1][l], strength[2][l]});
    bool contrary = false;
    for (int axis = 0; axis < 3; ++axis)
      contrary |= shape.n[axis] > 1 && (halved[axis] ? strength[axis][l] < V(kContrary) * largest
                                                     : strength[axis][l] == largest && largest > V(0));
    total += contrary;
  }
  return total;
}

// Measured in one pass where `expected` are the axes that turn out to be halved, in two otherwise; the
// second only where `contrary` is asked for.
template <class V>
Couplings couplings(const Stencil<V>& A, double threshold, const std::array<bool, 3>& expected, bool contrary,
                    int threads) {
  const std::int64_t n = A.shape.size(), chunks = chunks_of(n);
  Couplings out;
  const int workers = worker_count(chunks, threads);
  std::vector<std::array<double, 3>> sums(workers);
  std::vector<double> wrong(workers, 0.0);
  parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    std::array<double, 3> sum{};
    std::int64_t against = 0;
    V strength[3][kLanes];
    for (std::int64_t c = begin; c < end; ++c) {
      chunk_couplings(A.chunk(c), A.entries, strength);
      for (int axis = 0; axis < 3; ++axis) {
        V part = 0;
        for (int l = 0; l < kLanes; ++l) part += strength[axis][l];
        sum[axis] += double(part);
      }
      if (contrary) against += contrary_rows(strength, A.shape, expected);
    }
    sums[worker] = sum;
    wrong[worker] = double(against);
  });
  double most = 0.0;
  for (int axis = 0; axis < 3; ++axis) {
    for (const auto& s : sums) out.mean[axis] += s[axis] / double(n);
    if (A.shape.n[axis] > 1) most = std::max(most, out.mean[axis]);
  }
  for (int axis = 0; axis < 3; ++axis)
    out.halved[axis] = A.shape.n[axis] > 1 && out.mean[axis] >= threshold * most;
  if (!contrary) return out;
  if (out.halved != expected)
    parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      std::int64_t against = 0;
      V strength[3][kLanes];
      for (std::int64_t c = begin; c < end; ++c) {
        chunk_couplings(A.chunk(c), A.entries, strength);
        against += contrary_rows(strength, A.shape, out.halved);
      }
      wrong[worker] = double(against);
    });
  for (const double w : wrong) out.contrary += w / double(n);
  return out;
}

// Copies entries of the rows first .. first + length - 1 out of their chunks: to[slot] + row.
template <class V>
void unpack_rows(const Stencil<V>& A, std::int64_t first, std::int64_t length, V* to, std::int64_t stride) {
  const int count = A.entries.count;
  for (std::int64_t done = 0; done < length;) {
    const std::int64_t i = first + done, lane = i % kLanes, some = std::min(kLanes - lane, length - done);
    const V* from = A.chunk(i / kLanes) + lane;
    if (some == kLanes) {
      for (int k = 0; k < count; ++k) {
        prefetch(from + k * kLanes);
        for (int l = 0; l < kLanes; ++l) to[k * stride + done + l] = from[k * kLanes + l];
      }
    } else {
      for (int k = 0; k < count; ++k)
        for (std::int64_t l = 0; l < some; ++l) to[k * stride + done + l] = from[k * kLanes + l];
    }
    done += some;
  }
}

// The opposite, for one entry.
template <class V>
void pack_rows(const V* from, Stencil<V>& A, int slot, std::int64_t first, std::int64_t length) {
  for (std::int64_t done = 0; done < length;) {
    const std::int64_t i = first + done, lane = i % kLanes, some = std::min(kLanes - lane, length - done);
    V* to = A.chunk(i / kLanes) + slot * kLanes + lane;
    for (std::int64_t l = 0; l < some; ++l) to[l] = from[done + l];
    done += some;
  }
}

template <class V>
AxisWeights<V> axis_weights(const Stencil<V>& A, int axis, int threads) {
  AxisWeights<V> w;
  w.axis = axis;
  w.fine = w.coarse = w.odd = A.shape;
  w.coarse.n[axis] = (A.shape.n[axis] + 1) / 2;
  w.odd.n[axis] = A.shape.n[axis] / 2;
  w.pad = w.odd.pad();
  const std::int64_t size = w.odd.size();
  for (Buffer<V>* side : {&w.low, &w.high}) {
    side->resize(size + 2 * w.pad);
    std::fill(side->begin(), side->begin() + w.pad, V(0));
    std::fill(side->end() - w.pad, side->end(), V(0));
  }
  const int count = A.entries.count, centre = A.entries.slot[13];
  std::array<int, 27> side{};
  for (int k = 0; k < count; ++k) side[k] = Entries::step(A.entries.code[k])[axis];
  // Lines along the fastest axis: of the fine lattice where that is halved, of the odd points otherwise.
  const std::int64_t n0 = A.shape.n[0], lines = axis == 0 ? A.shape.size() / n0 : size / n0;
  parallel_for(lines, threads, [&](std::int64_t begin, std::int64_t end, int) {
    Buffer<V> row(count * n0), sum(3 * n0);
    for (std::int64_t line = begin; line < end; ++line) {
      std::int64_t fine = line;
      if (axis == 1) fine = line / w.odd.n[1] * A.shape.n[1] + 2 * (line % w.odd.n[1]) + 1;
      if (axis == 2) fine = (2 * (line / A.shape.n[1]) + 1) * A.shape.n[1] + line % A.shape.n[1];
      unpack_rows(A, fine * n0, n0, row.data(), n0);
      std::fill(sum.begin(), sum.end(), V(0));
      for (int k = 0; k < count; ++k) {
        V* to = sum.data() + (side[k] + 1) * n0;
        const V* from = row.data() + k * n0;
        for (std::int64_t x = 0; x < n0; ++x) to[x] += from[x];
      }
      const V* diagonal = row.data() + centre * n0;
      const std::int64_t length = axis == 0 ? w.odd.n[0] : n0, step = axis == 0 ? 2 : 1, start = axis == 0 ? 1 : 0;
      V *low = w.low.data() + w.pad + line * length, *high = w.high.data() + w.pad + line * length;
      for (std::int64_t j = 0; j < length; ++j) {
        const std::int64_t x = start + step * j;
        const V own = diagonal[x], middle = sum[n0 + x];
        const V by = middle * own > V(1e-3) * own * own ? middle : own;
        low[j] = by != V(0) ? -sum[x] / by : V(0);
        high[j] = by != V(0) ? -sum[2 * n0 + x] / by : V(0);
      }
    }
  });
  return w;
}

// C = P^T A P for the P of one axis, line by line along the fastest axis. Entries that would leave the lattice are
// zero, which is why no weight beyond the ends of a line matters.
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
  const int count = A.entries.count;
  const bool single = w.coarse.n[axis] == 1;
  const std::int64_t n0 = A.shape.n[0], n1 = A.shape.n[1], n = A.shape.n[axis];
  const std::int64_t length = w.coarse.n[0], stride = n0 + 2, odd0 = w.odd.n[0];
  // Lines between two odd points that are neighbours along the axis, and between the fine ones of them.
  const std::int64_t step = axis == 2 ? n1 : 1;
  parallel_for(w.coarse.size() / length, threads, [&](std::int64_t begin, std::int64_t end, int) {
    // Rows of the even points of a line, and of the odd points before and after them.
    Buffer<V> even(count * stride), before(count * stride), after(count * stride), zero(stride, V(0));
    Buffer<V> from_before(length), from_after(length), low(length), mid(length), high(length);
    for (std::int64_t line = begin; line < end; ++line) {
      std::int64_t fine = line, odd = line;  // the line of the even points; that of the odd ones after them
      bool has_before = true, has_after = true;
      if (axis != 0) {
        const std::int64_t X = axis == 1 ? line % w.coarse.n[1] : line / n1;
        fine = axis == 1 ? line / w.coarse.n[1] * n1 + 2 * X : 2 * X * n1 + line % n1;
        odd = axis == 1 ? line / w.coarse.n[1] * w.odd.n[1] + X : line;
        has_before = X > 0;
        has_after = 2 * X + 1 < n;
        unpack_rows(A, fine * n0, n0, even.data(), stride);
        if (has_before) unpack_rows(A, (fine - step) * n0, n0, before.data(), stride);
        if (has_after) unpack_rows(A, (fine + step) * n0, n0, after.data(), stride);
      } else {
        // before and after share one array: the odd points, with a zero in front and behind.
        Buffer<V>& row = after;
        unpack_rows(A, line * n0, n0, row.data(), stride);
        for (int k = 0; k < count; ++k) {
          const V* from = row.data() + k * stride;
          V *here = even.data() + k * stride, *there = before.data() + k * stride;
          there[0] = there[odd0 + 1] = V(0);
          for (std::int64_t j = 0; j < odd0; ++j) {
            here[j] = from[2 * j];
            there[j + 1] = from[2 * j + 1];
          }
          if (n0 % 2) here[odd0] = from[n0 - 1];
        }
      }
      const V* high_before = w.high.data() + w.pad + (axis == 0 ? odd * odd0 - 1 : (odd - step) * n0);
      const V* low_after = w.low.data() + w.pad + odd * odd0;
      for (std::int64_t x = 0; x < length; ++x) {
        from_before[x] = has_before ? high_before[x] : V(0);
        from_after[x] = has_after ? low_after[x] : V(0);
      }
      if (axis == 0) {
        from_before[0] = V(0);
        if (length > odd0) from_after[length - 1] = V(0);
      }
      const auto entries = [&](const Buffer<V>& rows, int slot, std::int64_t from, bool there) {
        return there && slot >= 0 ? rows.data() + slot * stride + from : zero.data();
      };
      for (const int code : across) {
        const int slots[3] = {A.entries.slot[code - unit], A.entries.slot[code], A.entries.slot[code + unit]};
        const std::int64_t shift = Entries::offset(code, w.odd), back = axis == 0 ? 1 : step * n0;
        const V* after_low = w.low.data() + w.pad + odd * odd0 + shift;
        const V* after_high = w.high.data() + w.pad + odd * odd0 + shift;
        const V *before_low = after_low - back, *before_high = after_high - back;
        const V *el = entries(even, slots[0], 0, true), *e0 = entries(even, slots[1], 0, true),
                *eh = entries(even, slots[2], 0, true);
        const V *bl = entries(before, slots[0], 0, has_before), *b0 = entries(before, slots[1], 0, has_before),
                *bh = entries(before, slots[2], 0, has_before);
        const Buffer<V>& next = axis == 0 ? before : after;
        const std::int64_t from = axis == 0 ? 1 : 0;
        const V *al = entries(next, slots[0], from, has_after), *a0 = entries(next, slots[1], from, has_after),
                *ah = entries(next, slots[2], from, has_after);
        for (std::int64_t x = 0; x < length; ++x) {
          // Rows of A P: the even point, then the odd points before and after it.
          const V pl = before_low[x], ph = before_high[x], ql = after_low[x], qh = after_high[x];
          const V fb = from_before[x], fa = from_after[x];
          low[x] = el[x] * pl + fb * (bl[x] + b0[x] * pl);
          mid[x] = e0[x] + el[x] * ph + fb * (bh[x] + b0[x] * ph) + eh[x] * ql + fa * (al[x] + a0[x] * ql);
          high[x] = eh[x] * qh + fa * (ah[x] + a0[x] * qh);
        }
        pack_rows(mid.data(), C, C.entries.slot[code], line * length, length);
        if (single) continue;
        pack_rows(low.data(), C, C.entries.slot[code - unit], line * length, length);
        pack_rows(high.data(), C, C.entries.slot[code + unit], line * length, length);
      }
    }
  });
  return C;
}

}  // namespace torch_sla::multigrid
