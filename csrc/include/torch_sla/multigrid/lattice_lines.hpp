// Line smoothing: the couplings along one axis are solved for exactly, all lines of that axis at once.
//
// On a lattice whose spacing is stretched here along one axis and there along another, no point smoother
// and no choice of axes to halve is right everywhere; lines along each axis in turn are.
#pragma once

#include "lattice.hpp"

namespace torch_sla::multigrid {

constexpr double kLineDamping = 0.8;  // the spectral radius is at most 2 for M-matrices

// Factors of the tridiagonal part along one axis, by row: x_k = inverse r_k - lower x_{k-1} on the way
// up, then x_k -= upper x_{k+1} on the way down.
template <class V>
struct LineFactor {
  int axis = 0;
  Buffer<V> lower, inverse, upper;
  std::size_t bytes() const { return bytes_of(lower) + bytes_of(inverse) + bytes_of(upper); }
};

// Calls f(first, step, count, from, to) for groups of lines along an axis: the points k of the lines
// are first + k step + e, e in [from, to).
template <class F>
void for_each_line(const Shape& s, int axis, int threads, F&& f) {
  const std::int64_t step = s.stride(axis), count = s.n[axis], outer = s.size() / (step * count);
  if (outer >= threads) {
    parallel_for(outer, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t o = begin; o < end; ++o) f(o * step * count, step, count, std::int64_t(0), step);
    });
    return;
  }
  for (std::int64_t o = 0; o < outer; ++o)
    parallel_for(step, threads, [&](std::int64_t begin, std::int64_t end, int) {
      f(o * step * count, step, count, begin, end);
    });
}

template <class V>
LineFactor<V> line_factor(const Stencil<V>& A, int axis, int threads) {
  LineFactor<V> out;
  out.axis = axis;
  const std::int64_t n = A.shape.size();
  out.lower.resize(n);
  out.inverse.resize(n);
  out.upper.resize(n);
  const int unit = axis == 0 ? 1 : axis == 1 ? 3 : 9;
  const int centre = A.entries.slot[13], below = A.entries.slot[13 - unit], above = A.entries.slot[13 + unit];
  for_each_line(A.shape, axis, threads, [&](std::int64_t first, std::int64_t step, std::int64_t count,
                                            std::int64_t from, std::int64_t to) {
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t e = from; e < to; ++e) {
        const std::int64_t i = first + k * step + e;
        const V sub = below >= 0 && k > 0 ? A.at(i, below) : V(0);
        const V super = above >= 0 && k + 1 < count ? A.at(i, above) : V(0);
        const V own = A.at(i, centre);
        V pivot = k > 0 ? own - sub * out.upper[i - step] : own;
        if (!(pivot * own > V(1e-6) * own * own)) pivot = own;
        const V inverse = pivot != V(0) ? V(1) / pivot : V(0);
        out.inverse[i] = inverse;
        out.lower[i] = sub * inverse;
        out.upper[i] = super * inverse;
      }
  });
  return out;
}

// Replaces r by the solution of the tridiagonal systems.
template <class V, class X>
void solve_lines(const LineFactor<V>& L, const Shape& s, X* r, int threads) {
  for_each_line(s, L.axis, threads, [&](std::int64_t first, std::int64_t step, std::int64_t count,
                                        std::int64_t from, std::int64_t to) {
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t at = first + k * step;
      for (std::int64_t e = at + from; e < at + to; ++e)
        r[e] = k > 0 ? L.inverse[e] * r[e] - L.lower[e] * r[e - step] : L.inverse[e] * r[e];
    }
    for (std::int64_t k = count - 1; k-- > 0;) {
      const std::int64_t at = first + k * step;
      for (std::int64_t e = at + from; e < at + to; ++e) r[e] -= L.upper[e] * r[e + step];
    }
  });
}

}  // namespace torch_sla::multigrid
