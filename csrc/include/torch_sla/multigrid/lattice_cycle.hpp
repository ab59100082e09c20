// One cycle of structured multigrid. Each pass over a level reads its stencils once, as one stream.
#pragma once

#include "lattice_hierarchy.hpp"

namespace torch_sla::multigrid {

// A padded vector on a lattice.
template <class X>
struct LatticeVector {
  Buffer<X> data;
  std::int64_t pad = 0;
  void allocate(const Shape& s) {
    pad = s.pad();
    data.assign(chunks_of(s.size()) * kLanes + 2 * pad, X(0));
  }
  X* begin() { return data.data() + pad; }
};

template <class X>
struct LatticeWorkspace {
  struct Vectors {
    LatticeVector<X> f, x, y, p, q;  // the last two for K cycles
  };
  std::vector<Vectors> levels;
  std::size_t bytes() const {
    std::size_t total = 0;
    for (const auto& v : levels)
      total += bytes_of(v.f.data) + bytes_of(v.x.data) + bytes_of(v.y.data) + bytes_of(v.p.data) +
               bytes_of(v.q.data);
    return total;
  }
};

// The transposed matrices, and their lines where those are smoothed.
template <class V>
struct LatticeAdjoint {
  std::vector<Stencil<V>> A;
  std::vector<std::vector<LineFactor<V>>> lines;
};

// Entry d of row i of the transposed matrix is entry -d of row i + d.
template <class V>
LatticeAdjoint<V> lattice_adjoint(const LatticeHierarchy<V>& h) {
  LatticeAdjoint<V> out;
  for (const auto& l : h.levels) {
    const auto& A = l.A;
    const auto offsets = A.offsets();
    const std::int64_t n = A.shape.size();
    out.A.emplace_back();
    auto& turned = out.A.back();
    turned.allocate(A.shape, A.entries);
    std::fill(turned.val.begin(), turned.val.end(), V(0));
    for (std::int64_t i = 0; i < n; ++i)
      for (int k = 0; k < A.entries.count; ++k) {
        const V v = A.at(i, k);
        if (v != V(0)) turned.at(i + offsets[k], A.entries.slot[26 - A.entries.code[k]]) = v;
      }
    out.lines.push_back(h.options.lines ? all_lines(turned, 1) : std::vector<LineFactor<V>>());
  }
  return out;
}

template <class V, class X = V>
struct LatticeRunner {
  using Element = X;
  const LatticeHierarchy<V>& h;
  const LatticeAdjoint<V>* transposed;
  LatticeWorkspace<X>& w;
  int threads;

  LatticeRunner(const LatticeHierarchy<V>& hierarchy, const LatticeAdjoint<V>* adjoint,
                LatticeWorkspace<X>& work, int nthreads)
      : h(hierarchy), transposed(adjoint), w(work), threads(nthreads) {
    if (w.levels.size() == h.levels.size()) return;
    w.levels.resize(h.levels.size());
    for (std::size_t i = 0; i < h.levels.size(); ++i) {
      const Shape& s = h.levels[i].A.shape;
      w.levels[i].f.allocate(s);
      w.levels[i].x.allocate(s);
      w.levels[i].y.allocate(s);
      if (i == 0 || h.options.cycle == Cycle::V) continue;
      w.levels[i].p.allocate(s);
      if (h.options.cycle == Cycle::K) w.levels[i].q.allocate(s);
    }
  }

  const Stencil<V>& matrix(std::size_t i) const { return transposed ? transposed->A[i] : h.levels[i].A; }
  const std::vector<LineFactor<V>>& lines(std::size_t i) const {
    return transposed ? transposed->lines[i] : h.levels[i].lines;
  }
  int level_threads(std::size_t i) const {
    return threads_for(h.levels[i].A.shape.size() * h.levels[i].A.entries.count, threads);
  }
  X* rhs() { return w.levels.front().f.begin(); }
  const X* result() const { return const_cast<LatticeWorkspace<X>&>(w).levels.front().x.begin(); }
  int block() const { return 1; }
  bool is_direct(std::size_t i) const { return i + 1 == h.levels.size() && !h.coarse_inverse.empty(); }
  void stage(std::int64_t begin, std::int64_t end) {
    if (h.options.lines) return;
    X* x = w.levels.front().x.begin();
    const X* f = w.levels.front().f.begin();
    const V* m = h.levels.front().M.data();
    for (std::int64_t i = begin; i < end; ++i) x[i] = m[i] * f[i];
  }
  Sum<X> run() { return cycle(0, true); }

  using Unit = Piece<X>;
  static constexpr int kUnits = kLanes / Unit::width, kHeld = 4;

  // f - A x over one chunk, handed to take(lane, unit) a few units at a time, which processors hold in registers.
  template <class Take>
  static void residual_chunk(const V* a, int count, const std::int64_t* offset, const X* f, const X* x, Take&& take) {
    for (int first = 0; first < kUnits; first += kHeld) {
      const int lane = first * Unit::width;
      typename Unit::type r[kHeld];
      for (int u = 0; u < kHeld; ++u) r[u] = Unit::load(f + lane + u * Unit::width);
      for (int k = 0; k < count; ++k) {
        const X* xk = x + offset[k] + lane;
        const V* ak = a + k * kLanes + lane;
        prefetch(ak);
        for (int u = 0; u < kHeld; ++u)
          r[u] -= Unit::coefficients(ak + u * Unit::width) * Unit::load(xk + u * Unit::width);
      }
      for (int u = 0; u < kHeld; ++u) take(lane + u * Unit::width, r[u]);
    }
  }
  static void residual_chunk(const V* a, int count, const std::int64_t* offset, const X* f, const X* x, X* acc) {
    residual_chunk(a, count, offset, f, x,
                   [&](int lane, const typename Unit::type& r) { Unit::store(acc + lane, r); });
  }
  // y = x + M (f - A x) over one chunk; adds f . y to `dot`, where there is one: rows of one place in their pack
  // first, so that a column among others has the bits that it has alone.
  static void relax_chunk(const V* a, int count, const std::int64_t* offset, const X* f, const X* x, const V* m, X* y,
                          Sum<X>* dot) {
    constexpr int places = Pack<V>::width / Unit::width;
    typename Unit::type part[places] = {};
    residual_chunk(a, count, offset, f, x, [&](int lane, const typename Unit::type& r) {
      const typename Unit::type made = Unit::load(x + lane) + Unit::coefficients(m + lane) * r;
      Unit::store(y + lane, made);
      part[lane / Unit::width % places] += Unit::load(f + lane) * made;
    });
    if (!dot) return;
    Sum<X> sum = Unit::sum(part[0]);
    for (int k = 1; k < places; ++k) sum += Unit::sum(part[k]);
    *dot += sum;
  }

  Sum<X> relax(std::size_t i, bool dot) {
    const auto& A = matrix(i);
    auto& v = w.levels[i];
    const auto offsets = A.offsets();
    const X *f = v.f.begin(), *x = v.x.begin();
    const V* m = h.levels[i].M.data();
    X* y = v.y.begin();
    const int count = A.entries.count;
    const Sum<X> product =
        parallel_sum<Sum<X>>(chunks_of(A.shape.size()), level_threads(i), [&](std::int64_t begin, std::int64_t end) {
          Sum<X> total = 0.0;
          for (std::int64_t c = begin; c < end; ++c) {
            const std::int64_t at = c * kLanes;
            relax_chunk(A.chunk(c), count, offsets.data(), f + at, x + at, m + at, y + at, dot ? &total : nullptr);
          }
          return total;
        });
    std::swap(v.x.data, v.y.data);
    return product;
  }

  // y = f - A x of level i; y may be f.
  void residual(std::size_t i, const X* f, const X* x, X* y) {
    const auto& A = matrix(i);
    const auto offsets = A.offsets();
    parallel_for(chunks_of(A.shape.size()), level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t c = begin; c < end; ++c)
        residual_chunk(A.chunk(c), A.entries.count, offsets.data(), f + c * kLanes, x + c * kLanes, y + c * kLanes);
    });
  }

  // One step along every axis, in the order of the axes before the coarse correction and in the
  // opposite one after it; from a zero guess where `zero`.
  void relax_lines(std::size_t i, bool forward, bool zero) {
    const auto& all = lines(i);
    auto& v = w.levels[i];
    const Shape& s = h.levels[i].A.shape;
    const std::int64_t n = s.size();
    const int t = level_threads(i);
    X *f = v.f.begin(), *x = v.x.begin(), *y = v.y.begin();
    for (std::size_t k = 0; k < all.size(); ++k) {
      const auto& line = all[forward ? k : all.size() - 1 - k];
      const bool first = zero && k == 0;
      if (first) std::copy(f, f + n, y);
      else residual(i, f, x, y);
      solve_lines(line, s, y, t);
      parallel_for(n, t, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t e = begin; e < end; ++e)
          x[e] = first ? V(kLineDamping) * y[e] : x[e] + V(kLineDamping) * y[e];
      });
    }
  }

  Sum<X> inner(std::size_t i, const X* a, const X* b) {
    return parallel_sum<Sum<X>>(h.levels[i].A.shape.size(), level_threads(i), [&](std::int64_t begin, std::int64_t end) {
      Sum<X> total = 0.0;
      for (std::int64_t e = begin; e < end; ++e) total += wide(a[e]) * wide(b[e]);
      return total;
    });
  }

  // Moves one plane (last axis) of residuals to the lattice halved along the first two axes.
  void restrict_plane(const LatticeLevel<V>& l, std::int64_t z, X* r, X* half, const X*& out) const {
    const Shape& s = l.A.shape;
    std::int64_t n0 = s.n[0];
    const std::int64_t n1 = s.n[1];
    out = r;
    for (const auto& p : l.weights) {
      if (p.axis == 0) {
        const std::int64_t nc = p.coarse.n[0], no = p.odd.n[0];
        for (std::int64_t y = 0; y < n1; ++y) {
          const X* from = out + y * n0;
          X* to = half + y * nc;
          const V* low = p.low.data() + p.pad + (z * n1 + y) * no;
          const V* high = p.high.data() + p.pad + (z * n1 + y) * no;
          for (std::int64_t j = 0; j < no; ++j) to[j] = from[2 * j] + low[j] * from[2 * j + 1];
          if (nc > no) to[no] = from[2 * no];
          for (std::int64_t j = 1; j < nc; ++j) to[j] += high[j - 1] * from[2 * j - 1];
        }
        n0 = nc;
        out = half;
      } else if (p.axis == 1) {
        const std::int64_t nc = p.coarse.n[1], no = p.odd.n[1];
        const V* low = p.low.data() + p.pad + z * no * n0;
        const V* high = p.high.data() + p.pad + z * no * n0;
        for (std::int64_t Y = 0; Y < nc; ++Y) {  // in place: row Y is written after 2Y-1 was read
          const X* even = out + 2 * Y * n0;
          X* to = half + Y * n0;
          for (std::int64_t x = 0; x < n0; ++x) {
            X sum = even[x];
            if (Y < no) sum += low[Y * n0 + x] * even[n0 + x];
            if (Y > 0) sum += high[(Y - 1) * n0 + x] * even[x - n0];
            to[x] = sum;
          }
        }
        out = half;
      }
    }
  }

  // Axes 0 and 1 are finished plane by plane in buffers that stay in cache; the last axis combines planes.
  void restrict_residual(std::size_t i) {
    const auto& l = h.levels[i];
    const auto& A = matrix(i);
    auto& v = w.levels[i];
    const auto offsets = A.offsets();
    const Shape &s = l.A.shape, &sc = h.levels[i + 1].A.shape;
    const std::int64_t plane = s.stride(2), coarse_plane = sc.stride(2);
    const AxisWeights<V>* last = nullptr;
    for (const auto& p : l.weights)
      if (p.axis == 2) last = &p;
    X* coarse = w.levels[i + 1].f.begin();
    const X *f = v.f.begin(), *x = v.x.begin();
    parallel_for(sc.n[2], level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
      Buffer<X> r(plane + 2 * kLanes), half(plane);
      std::fill(coarse + begin * coarse_plane, coarse + end * coarse_plane, X(0));
      const std::int64_t from = last ? std::max<std::int64_t>(0, 2 * begin - 1) : begin;
      const std::int64_t to = last ? std::min(s.n[2], 2 * end) : end;
      for (std::int64_t z = from; z < to; ++z) {
        const std::int64_t c0 = z * plane / kLanes, c1 = chunks_of((z + 1) * plane);
        for (std::int64_t c = c0; c < c1; ++c)
          residual_chunk(A.chunk(c), A.entries.count, offsets.data(), f + c * kLanes, x + c * kLanes,
                         r.data() + (c - c0) * kLanes);
        const X* out;
        restrict_plane(l, z, r.data() + (z * plane - c0 * kLanes), half.data(), out);
        if (!last || z % 2 == 0) {
          X* target = coarse + (last ? z / 2 : z) * coarse_plane;
          for (std::int64_t e = 0; e < coarse_plane; ++e) target[e] += out[e];
          continue;
        }
        const std::int64_t Z = z / 2;
        const V* low = last->low.data() + last->pad + Z * coarse_plane;
        const V* high = last->high.data() + last->pad + Z * coarse_plane;
        if (Z >= begin && Z < end)
          for (std::int64_t e = 0; e < coarse_plane; ++e) coarse[Z * coarse_plane + e] += low[e] * out[e];
        if (Z + 1 >= begin && Z + 1 < end)
          for (std::int64_t e = 0; e < coarse_plane; ++e) coarse[(Z + 1) * coarse_plane + e] += high[e] * out[e];
      }
    });
  }

  void prolong(std::size_t i) {
    const auto& l = h.levels[i];
    const Shape &s = l.A.shape, &sc = h.levels[i + 1].A.shape;
    const std::int64_t plane = s.stride(2), coarse_plane = sc.stride(2), n1 = s.n[1];
    const AxisWeights<V>* axes[3] = {nullptr, nullptr, nullptr};
    for (const auto& p : l.weights) axes[p.axis] = &p;
    const X* coarse = w.levels[i + 1].x.begin();
    X* x = w.levels[i].x.begin();
    parallel_for(s.n[2], level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
      Buffer<X> first(coarse_plane), second(sc.n[0] * n1);
      for (std::int64_t z = begin; z < end; ++z) {
        const X* in = coarse + (axes[2] ? z / 2 : z) * coarse_plane;
        if (axes[2] && z % 2) {
          const std::int64_t Z = z / 2;
          const V* low = axes[2]->low.data() + axes[2]->pad + Z * coarse_plane;
          const V* high = axes[2]->high.data() + axes[2]->pad + Z * coarse_plane;
          const X* next = Z + 1 < sc.n[2] ? in + coarse_plane : in;  // weight zero past the end
          for (std::int64_t e = 0; e < coarse_plane; ++e) first[e] = low[e] * in[e] + high[e] * next[e];
          in = first.data();
        }
        if (axes[1]) {
          const std::int64_t n0 = sc.n[0], no = axes[1]->odd.n[1];
          for (std::int64_t y = 0; y < n1; ++y) {
            const X* here = in + y / 2 * n0;
            X* to = second.data() + y * n0;
            if (y % 2 == 0) {
              std::copy(here, here + n0, to);
              continue;
            }
            const V* low = axes[1]->low.data() + axes[1]->pad + (z * no + y / 2) * n0;
            const V* high = axes[1]->high.data() + axes[1]->pad + (z * no + y / 2) * n0;
            const X* next = y / 2 + 1 < sc.n[1] ? here + n0 : here;
            for (std::int64_t e = 0; e < n0; ++e) to[e] = low[e] * here[e] + high[e] * next[e];
          }
          in = second.data();
        }
        X* out = x + z * plane;
        if (!axes[0]) {
          for (std::int64_t e = 0; e < plane; ++e) out[e] += in[e];
          continue;
        }
        const std::int64_t nc = sc.n[0], no = axes[0]->odd.n[0], n0 = s.n[0];
        for (std::int64_t y = 0; y < n1; ++y) {
          const X* from = in + y * nc;
          X* to = out + y * n0;
          const V* low = axes[0]->low.data() + axes[0]->pad + (z * n1 + y) * no;
          const V* high = axes[0]->high.data() + axes[0]->pad + (z * n1 + y) * no;
          const std::int64_t full = nc > no ? no : no - 1;  // odd points with a neighbour on both sides
          for (std::int64_t j = 0; j < full; ++j) {
            to[2 * j] += from[j];
            to[2 * j + 1] += low[j] * from[j] + high[j] * from[j + 1];
          }
          to[2 * full] += from[full];
          if (nc == no) to[2 * full + 1] += low[full] * from[full];
        }
      }
    });
  }

  Sum<X> cycle(std::size_t i, bool staged) {
    auto& v = w.levels[i];
    const std::int64_t n = h.levels[i].A.shape.size();
    const bool dot = i == 0;
    if (is_direct(i)) {
      apply_coarsest(h.coarse_inverse, v.f.begin(), v.x.begin(), n, transposed != nullptr);
      Sum<X> product = 0.0;
      for (std::int64_t e = 0; e < n; ++e) product += wide(v.f.begin()[e]) * wide(v.x.begin()[e]);
      return product;
    }
    const bool along = h.options.lines;
    if (along) {
      relax_lines(i, true, true);
    } else if (!staged) {
      const V* m = h.levels[i].M.data();
      X *f = v.f.begin(), *x = v.x.begin();
      parallel_for(n, level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t e = begin; e < end; ++e) x[e] = m[e] * f[e];
      });
    }
    for (int k = 1; k < h.options.sweeps; ++k) {
      if (along) relax_lines(i, true, false);
      else relax(i, false);
    }
    if (i + 1 < h.levels.size()) {
      restrict_residual(i);
      visit(i + 1);
      prolong(i);
    }
    Sum<X> product = 0.0;
    for (int k = 0; k < h.options.sweeps; ++k) {
      if (along) relax_lines(i, false, false);
      else product = relax(i, dot && k + 1 == h.options.sweeps);
    }
    return along && dot ? inner(0, v.f.begin(), v.x.begin()) : product;
  }

  // Solves level i approximately: by one cycle (V), two (W), or two conjugate gradient steps
  // preconditioned by the cycle (K), as on aggregates; K is for one right-hand side.
  void visit(std::size_t i) {
    cycle(i, false);
    if (h.options.cycle == Cycle::V || is_direct(i)) return;
    auto& v = w.levels[i];
    const std::int64_t n = h.levels[i].A.shape.size();
    if (h.options.cycle == Cycle::W) {
      std::swap(v.p.data, v.x.data);  // first result; the second cycle works on its residual
      residual(i, v.f.begin(), v.p.begin(), v.f.begin());
      cycle(i, false);
      X *x = v.x.begin(), *p = v.p.begin();
      for (std::int64_t e = 0; e < n; ++e) x[e] += p[e];
      return;
    }
    if constexpr (is_number<X>) {
      std::swap(v.p.data, v.x.data);
      V *f = v.f.begin(), *p = v.p.begin(), *q = v.q.begin();
      residual(i, f, p, v.y.begin());  // f - A p
      const V* rest_of = v.y.begin();
      for (std::int64_t e = 0; e < n; ++e) q[e] = f[e] - rest_of[e];
      const double gamma = inner(i, p, q), first = inner(i, p, f);
      if (!(gamma > 0.0)) {
        std::swap(v.p.data, v.x.data);
        return;
      }
      const double alpha = first / gamma, norm = inner(i, f, f);
      for (std::int64_t e = 0; e < n; ++e) f[e] -= V(alpha) * q[e];
      if (inner(i, f, f) <= 0.0625 * norm) {
        V* x = v.x.begin();
        for (std::int64_t e = 0; e < n; ++e) x[e] = V(alpha) * p[e];
        return;
      }
      cycle(i, false);
      V *x = v.x.begin(), *y = v.y.begin();
      residual(i, f, x, y);
      for (std::int64_t e = 0; e < n; ++e) y[e] = f[e] - y[e];  // A x
      const double cross = inner(i, x, q), own = inner(i, x, y), second = inner(i, x, f);
      const double rest = own - cross * cross / gamma;
      const double beta = rest > 0.0 ? second / rest : 0.0;
      const double back = alpha - beta * cross / gamma;
      for (std::int64_t e = 0; e < n; ++e) x[e] = V(back) * p[e] + V(beta) * x[e];
    }
  }
};

}  // namespace torch_sla::multigrid
