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

// The slots of a stencil that lie on either side of a point along each axis: 2 axis, and 2 axis + 1 beyond it.
struct Sides {
  std::array<std::array<int, 9>, 6> slot;
  std::array<int, 6> count{};

  explicit Sides(const Entries& e) {
    for (int k = 0; k < e.count; ++k) {
      const auto d = Entries::step(e.code[k]);
      for (int axis = 0; axis < 3; ++axis) {
        if (d[axis] == 0) continue;
        const int side = 2 * axis + (d[axis] > 0);
        slot[side][count[side]++] = k;
      }
    }
  }
};

// Sums over the rows of one chunk: the couplings along each axis, and the rows that are contrary to halving some.
struct ChunkCouplings {
  std::array<double, 3> sum;
  double contrary;
};

// Of an axis of one point nothing is asked. Rows are contrary to `halved` where that is given.
template <class V>
inline ChunkCouplings chunk_couplings(const Stencil<V>& A, std::int64_t chunk, const Sides& sides,
                                      const std::array<bool, 3>* halved) {
  using P = Pack<V>;
  using Part = typename P::type;
  const auto size = [](const Part& x) -> Part { return x < Part{} ? -x : x; };
  const Part none{}, one = none + V(1);
  const V* a = A.chunk(chunk);
  Part total[3] = {}, contrary = none;
  for (int k = 0; k < A.entries.count; ++k) prefetch(a + k * kLanes);
  for (int l = 0; l < kLanes; l += P::width) {
    const Part own = size(P::load(a + A.entries.slot[13] * kLanes + l));
    const Part share = own > none ? one / own : none;
    Part found[3] = {}, largest = none;
    for (int axis = 0; axis < 3; ++axis) {
      if (A.shape.n[axis] == 1) continue;
      Part side[2] = {};
      for (int s = 0; s < 2; ++s)
        for (int k = 0; k < sides.count[2 * axis + s]; ++k)
          side[s] += P::load(a + sides.slot[2 * axis + s][k] * kLanes + l);
      found[axis] = (size(side[0]) + size(side[1])) * share;
      total[axis] += found[axis];
      largest = largest < found[axis] ? found[axis] : largest;
    }
    if (!halved) continue;
    Part against = none;
    for (int axis = 0; axis < 3; ++axis) {
      if (A.shape.n[axis] == 1) continue;
      if ((*halved)[axis]) against = found[axis] < V(kContrary) * largest ? one : against;
      else against = found[axis] == largest ? (largest > none ? one : against) : against;
    }
    contrary += against;
  }
  return {{Piece<V>::sum(total[0]), Piece<V>::sum(total[1]), Piece<V>::sum(total[2])}, double(Piece<V>::sum(contrary))};
}

// Measured in one pass where `expected` are the axes that turn out to be halved, in two otherwise; the
// second only where `contrary` is asked for.
template <class V>
Couplings couplings(const Stencil<V>& A, double threshold, const std::array<bool, 3>& expected, bool contrary,
                    int threads) {
  const std::int64_t n = A.shape.size(), chunks = chunks_of(n);
  const Sides sides(A.entries);
  Couplings out;
  const int workers = worker_count(chunks, threads);
  std::vector<std::array<double, 3>> sums(workers);
  std::vector<double> wrong(workers, 0.0);
  const auto look = [&](const std::array<bool, 3>* halved) {
    parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      std::array<double, 3> sum{};
      double against = 0.0;
      for (std::int64_t c = begin; c < end; ++c) {
        const ChunkCouplings part = chunk_couplings(A, c, sides, halved);
        for (int axis = 0; axis < 3; ++axis) sum[axis] += part.sum[axis];
        against += part.contrary;
      }
      sums[worker] = sum;
      wrong[worker] = against;
    });
  };
  look(contrary ? &expected : nullptr);
  double most = 0.0;
  for (int axis = 0; axis < 3; ++axis) {
    for (const auto& s : sums) out.mean[axis] += s[axis] / double(n);
    if (A.shape.n[axis] > 1) most = std::max(most, out.mean[axis]);
  }
  for (int axis = 0; axis < 3; ++axis)
    out.halved[axis] = A.shape.n[axis] > 1 && out.mean[axis] >= threshold * most;
  if (!contrary) return out;
  if (out.halved != expected) look(&out.halved);
  for (const double w : wrong) out.contrary += w / double(n);
  return out;
}

// Copies entries of the rows first .. first + length - 1 out of their chunks: to[slot * stride + row]. Whole chunks at
// a time, of which up to kLanes come to lie behind the last row: what is there is written over.
template <class V>
void unpack_rows(const Stencil<V>& A, std::int64_t first, std::int64_t length, V* to, std::int64_t stride) {
  const int count = A.entries.count;
  const std::int64_t lane = first % kLanes;
  for (std::int64_t c = first / kLanes, done = 0; done < length; ++c) {
    const std::int64_t skipped = done == 0 ? lane : 0;
    const V* from = A.chunk(c) + skipped;
    for (int k = 0; k < count; ++k) {
      prefetch(from + k * kLanes);
      V* row = to + k * stride + done;
      for (int l = 0; l < kLanes; l += Pack<V>::width) Pack<V>::store(row + l, Pack<V>::load(from + k * kLanes + l));
    }
    done += kLanes - skipped;
  }
}

// The opposite: takes rows one line after the other, and writes them to their chunks as soon as these are full.
template <class V>
class Packer {
 public:
  Packer(Stencil<V>& C, std::int64_t first, std::int64_t line)
      : C_(C), stride_(line + 3 * kLanes), skipped_(first % kLanes), held_(skipped_), chunk_(first / kLanes),
        rows_(C.entries.count * stride_) {}
  // Where the entries of the next line go that have this slot; up to kLanes behind it may be written as well.
  V* line(int slot) { return rows_.data() + slot * stride_ + held_; }
  void advance(std::int64_t length) {
    held_ += length;
    const std::int64_t full = held_ / kLanes;
    for (std::int64_t c = 0; c < full; ++c) write(c, kLanes);
    if (full == 0) return;
    for (int k = 0; k < C_.entries.count; ++k) copy(rows_.data() + k * stride_ + full * kLanes, rows_.data() + k * stride_);
    chunk_ += full;
    held_ -= full * kLanes;
  }
  void finish() {
    if (held_ > skipped_) write(0, held_);
  }

 private:
  static void copy(const V* from, V* to) {
    for (int l = 0; l < kLanes; l += Pack<V>::width) Pack<V>::store(to + l, Pack<V>::load(from + l));
  }
  void write(std::int64_t c, std::int64_t end) {
    V* to = C_.chunk(chunk_ + c);
    for (int k = 0; k < C_.entries.count; ++k) {
      const V* from = rows_.data() + k * stride_ + c * kLanes;
      if (skipped_ == 0 && end == kLanes) copy(from, to + k * kLanes);
      else std::copy(from + skipped_, from + end, to + k * kLanes + skipped_);
    }
    skipped_ = 0;
  }

  Stencil<V>& C_;
  std::int64_t stride_, skipped_, held_, chunk_;  // rows before `skipped_` belong to somebody else
  Buffer<V> rows_;
};

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
    side->resize(size + 2 * w.pad + kLanes);  // read in whole packs
    std::fill(side->begin(), side->begin() + w.pad, V(0));
    std::fill(side->begin() + w.pad + size, side->end(), V(0));
  }
  const int count = A.entries.count, centre = A.entries.slot[13];
  std::array<int, 27> side{};
  for (int k = 0; k < count; ++k) side[k] = Entries::step(A.entries.code[k])[axis];
  // Lines along the fastest axis: of the fine lattice where that is halved, of the odd points otherwise.
  const std::int64_t n0 = A.shape.n[0], lines = axis == 0 ? A.shape.size() / n0 : size / n0;
  parallel_for(lines, threads, [&](std::int64_t begin, std::int64_t end, int) {
    const std::int64_t stride = n0 + kLanes;
    Buffer<V> row(count * stride), sum(3 * n0);
    for (std::int64_t line = begin; line < end; ++line) {
      std::int64_t fine = line;
      if (axis == 1) fine = line / w.odd.n[1] * A.shape.n[1] + 2 * (line % w.odd.n[1]) + 1;
      if (axis == 2) fine = (2 * (line / A.shape.n[1]) + 1) * A.shape.n[1] + line % A.shape.n[1];
      unpack_rows(A, fine * n0, n0, row.data(), stride);
      std::fill(sum.begin(), sum.end(), V(0));
      for (int k = 0; k < count; ++k) {
        V* to = sum.data() + (side[k] + 1) * n0;
        const V* from = row.data() + k * stride;
        for (std::int64_t x = 0; x < n0; ++x) to[x] += from[x];
      }
      const V* diagonal = row.data() + centre * stride;
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

// Entries of fine rows beside a line of coarse points: towards -1, 0 and 1 along the axis that is halved.
template <class V>
struct Threes {
  const V *low, *mid, *high;
};

// Rows of P^T A P on one line: of the even points, and of the odd points before and after them by the weights with
// which these take part. p and q: weights of the odd points that the entries lead to, before and after.
template <class V>
struct CoarseLine {
  Threes<V> even, before, after;
  const V *p_low, *p_high, *q_low, *q_high, *from_before, *from_after;

  // Whole packs: all arrays have room behind the line.
  void combine(std::int64_t length, bool along, V* low, V* mid, V* high) const {
    using P = Pack<V>;
    using Part = typename P::type;
    for (std::int64_t x = 0; x < length; x += P::width) {
      const Part pl = P::load(p_low + x), ph = P::load(p_high + x), ql = P::load(q_low + x), qh = P::load(q_high + x);
      const Part fb = P::load(from_before + x), fa = P::load(from_after + x);
      const Part e0 = P::load(even.mid + x), b0 = P::load(before.mid + x), a0 = P::load(after.mid + x);
      if (along) {
        const Part el = P::load(even.low + x), bl = P::load(before.low + x), al = P::load(after.low + x);
        const Part eh = P::load(even.high + x), bh = P::load(before.high + x), ah = P::load(after.high + x);
        P::store(low + x, el * pl + fb * (bl + b0 * pl));
        P::store(mid + x, e0 + el * ph + fb * (bh + b0 * ph) + eh * ql + fa * (al + a0 * ql));
        P::store(high + x, eh * qh + fa * (ah + a0 * qh));
      } else {
        P::store(low + x, fb * (b0 * pl));
        P::store(mid + x, e0 + fb * (b0 * ph) + fa * (a0 * ql));
        P::store(high + x, fa * (a0 * qh));
      }
    }
  }
};

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
  V* end = C.chunk(chunks_of(w.coarse.size()));
  std::fill(end - C.entries.count * kLanes, end, V(0));
  const int count = A.entries.count;
  const bool single = w.coarse.n[axis] == 1;
  const std::int64_t n0 = A.shape.n[0], n1 = A.shape.n[1], n = A.shape.n[axis];
  const std::int64_t length = w.coarse.n[0], stride = n0 + 2 + kLanes, odd0 = w.odd.n[0];
  // Lines between two odd points that are neighbours along the axis, and between the fine ones of them.
  const std::int64_t step = axis == 2 ? n1 : 1;
  parallel_for(w.coarse.size() / length, threads, [&](std::int64_t begin, std::int64_t end, int) {
    // Rows of the even points of a line, and of the odd points before and after them.
    Buffer<V> even(count * stride), before(count * stride), after(count * stride), zero(stride, V(0));
    Buffer<V> from_before(length + kLanes), from_after(length + kLanes), nowhere(length + kLanes);
    Packer<V> made(C, begin * length, length);
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
      const auto entries = [&](const Buffer<V>& rows, int code, std::int64_t from, bool there) {
        const auto at = [&](int slot) { return there && slot >= 0 ? rows.data() + slot * stride + from : zero.data(); };
        const auto& slot = A.entries.slot;
        return Threes<V>{at(slot[code - unit]), at(slot[code]), at(slot[code + unit])};
      };
      for (const int code : across) {
        const std::int64_t shift = Entries::offset(code, w.odd), back = axis == 0 ? 1 : step * n0;
        const V* after_low = w.low.data() + w.pad + odd * odd0 + shift;
        const V* after_high = w.high.data() + w.pad + odd * odd0 + shift;
        const CoarseLine<V> rows{entries(even, code, 0, true),
                                 entries(before, code, 0, has_before),
                                 axis == 0 ? entries(before, code, 1, true) : entries(after, code, 0, has_after),
                                 after_low - back,
                                 after_high - back,
                                 after_low,
                                 after_high,
                                 from_before.data(),
                                 from_after.data()};
        const bool along = A.entries.slot[code - unit] >= 0 || A.entries.slot[code + unit] >= 0;
        rows.combine(length, along, single ? nowhere.data() : made.line(C.entries.slot[code - unit]),
                     made.line(C.entries.slot[code]),
                     single ? nowhere.data() : made.line(C.entries.slot[code + unit]));
      }
      made.advance(length);
    }
    made.finish();
  });
  return C;
}

}  // namespace torch_sla::multigrid
