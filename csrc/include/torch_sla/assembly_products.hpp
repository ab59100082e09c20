// A bilinear form evaluated cell by cell between two fields: its derivative in the coefficients.
//
// With the jets (value, derivatives) of two fields at a point, the integral over a cell is
//   sum over q of w_q measure_q sum over slots of C[slot] left_jet[a, m] right_jet[b, n],   slot = (a, m, b, n),
// so the derivative of the sum of all in C[slot] at a point is a product of two numbers. That is what
// the values `left right^T` of a matrix give when they are pulled back to coefficients, without the
// values: each field costs one interpolation.
//
// Cells are taken a block at a time, one lane each: what is done to one is done to all lanes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "torch_sla/assembly_clones.hpp"
#include "torch_sla/parallel.hpp"

namespace torch_sla {

// A product of two slots of jets, and what it counts for.
template <class Scalar>
struct Pairing {
  std::int64_t left, right, part;
  Scalar weight;
};

template <class Real, class Scalar>
struct FieldPair {
  std::int64_t components, batch, cells, local, points;  // local: nodes of a cell
  std::int64_t coefficient_points, geometry_points;      // 1 or points
  std::int64_t parts, rank, n_nodes;
  int dim;
  bool left_value, left_gradient, right_value, right_gradient;
  const std::int64_t* nodes;       // [cells][local]
  const double *basis, *weights;   // [points][1 + dim][local], [points]
  const Real *inverse, *measure;   // [cells][geometry_points][dim][dim], [cells][geometry_points]
  std::vector<Pairing<Scalar>> pairings;

  // Fills `pairings`: S [slots][parts], slots [a][m][b][n], or null where parts are slots.
  void pair(const Scalar* S) {
    const std::int64_t lefts = components * (left_value + dim * left_gradient);
    const std::int64_t rights = components * (right_value + dim * right_gradient);
    for (std::int64_t l = 0, slot = 0; l < lefts; ++l)
      for (std::int64_t r = 0; r < rights; ++r, ++slot)
        for (std::int64_t p = S ? 0 : slot; p < (S ? parts : slot + 1); ++p) {
          const Scalar weight = S ? S[slot * parts + p] : Scalar(1);
          if (weight != Scalar(0)) pairings.push_back({l, r, p, weight});
        }
  }
};

namespace detail {

constexpr int lanes = 16;

// out = the interpolation of x [local][components] of one component with a row of the basis.
template <class Scalar>
TORCH_SLA_INLINE void interpolate_lanes(const double* row, std::int64_t local, std::int64_t step,
                                        const Scalar* x, Scalar* out) {
  Scalar sum[lanes];
  for (int c = 0; c < lanes; ++c) sum[c] = Scalar(0);
  for (std::int64_t i = 0; i < local; ++i, x += step) {
    const double weight = row[i];
    if (weight == 0.0) continue;
    for (int c = 0; c < lanes; ++c) sum[c] += weight * x[c];
  }
  for (int c = 0; c < lanes; ++c) out[c] = sum[c];
}

// Jets [component][slot] of a field x [local][components] at a point; G [dim][dim] is dX/dx.
template <class Real, class Scalar>
TORCH_SLA_INLINE void jets_of(const FieldPair<Real, Scalar>& f, bool value, bool gradient,
                              const double* basis, const Scalar* x, const Real* G, Scalar* along,
                              Scalar* out) {
  const std::int64_t step = f.components * lanes;
  for (std::int64_t a = 0; a < f.components; ++a) {
    if (value) {
      interpolate_lanes(basis, f.local, step, x + a * lanes, out);
      out += lanes;
    }
    if (!gradient) continue;
    for (int k = 0; k < f.dim; ++k)
      interpolate_lanes(basis + (1 + k) * f.local, f.local, step, x + a * lanes, along + k * lanes);
    for (int d = 0; d < f.dim; ++d, out += lanes) {
      Scalar sum[lanes];
      for (int c = 0; c < lanes; ++c) sum[c] = Scalar(0);
      for (int k = 0; k < f.dim; ++k) {
        const Real* g = G + (k * f.dim + d) * lanes;
        for (int c = 0; c < lanes; ++c) sum[c] += g[c] * along[k * lanes + c];
      }
      for (int c = 0; c < lanes; ++c) out[c] = sum[c];
    }
  }
}

template <class Real, class Scalar>
struct PairScratch {
  std::vector<Scalar> x, y, left, right, along, sum;
  std::vector<Real> G, measure;

  explicit PairScratch(const FieldPair<Real, Scalar>& f)
      : x(f.local * f.components * lanes), y(x.size()), left(f.components * (1 + f.dim) * lanes),
        right(left.size()), along(f.dim * lanes), sum(f.parts * lanes), G(f.dim * f.dim * lanes),
        measure(lanes) {}
};

// Cells [first, first + count), count <= lanes, of one layer.
template <class Real, class Scalar>
TORCH_SLA_INLINE void pair_cells_generic(const FieldPair<Real, Scalar>& f, std::int64_t layer,
                                         std::int64_t first, std::int64_t count,
                                         const Scalar* left, const Scalar* right, Scalar* target,
                                         PairScratch<Real, Scalar>& s) {
  const std::int64_t size = f.components, square = f.dim * f.dim, Q = f.coefficient_points;
  const std::int64_t step = size * f.rank, base = layer * f.n_nodes * step;
  const std::int64_t part_step = f.batch * f.cells * Q;
  const std::int64_t rights = size * (f.right_value + f.dim * f.right_gradient);
  for (std::int64_t rank = 0; rank < f.rank; ++rank) {
    // Lanes without a cell of their own repeat the last one.
    for (std::int64_t c = 0; c < lanes; ++c) {
      const std::int64_t* node = f.nodes + (first + std::min(c, count - 1)) * f.local;
      const Scalar *l = left + base + rank, *r = right + base + rank;
      Scalar *x = s.x.data() + c, *y = s.y.data() + c;
      if (step == 1)
        for (std::int64_t i = 0; i < f.local; ++i, x += lanes, y += lanes) {
          *x = l[node[i]];
          *y = r[node[i]];
        }
      else
        for (std::int64_t i = 0; i < f.local; ++i)
          for (std::int64_t a = 0; a < step; a += f.rank, x += lanes, y += lanes) {
            *x = l[node[i] * step + a];
            *y = r[node[i] * step + a];
          }
    }
    for (std::int64_t q = 0; q < f.points; ++q) {
      if (q == 0 || f.geometry_points > 1)
        for (std::int64_t c = 0; c < lanes; ++c) {
          const std::int64_t cell = first + std::min(c, count - 1);
          const std::int64_t g = cell * f.geometry_points + (f.geometry_points > 1 ? q : 0);
          for (std::int64_t k = 0; k < square; ++k) s.G[k * lanes + c] = f.inverse[g * square + k];
          s.measure[c] = f.measure[g];
        }
      const double* basis = f.basis + q * (1 + f.dim) * f.local;
      jets_of(f, f.left_value, f.left_gradient, basis, s.x.data(), s.G.data(), s.along.data(),
              s.left.data());
      jets_of(f, f.right_value, f.right_gradient, basis, s.y.data(), s.G.data(), s.along.data(),
              s.right.data());
      for (std::int64_t r = 0; r < rights; ++r)
        for (int c = 0; c < lanes; ++c)
          s.right[r * lanes + c] *= f.weights[q] * s.measure[c];
      if (q == 0 || Q > 1) std::fill(s.sum.begin(), s.sum.end(), Scalar(0));
      for (const auto& p : f.pairings) {
        const Scalar *l = s.left.data() + p.left * lanes, *r = s.right.data() + p.right * lanes;
        Scalar* out = s.sum.data() + p.part * lanes;
        for (int c = 0; c < lanes; ++c) out[c] += p.weight * (l[c] * r[c]);
      }
      if (Q == 1 && q + 1 < f.points) continue;
      for (std::int64_t p = 0; p < f.parts; ++p) {
        Scalar* out = target + p * part_step + (layer * f.cells + first) * Q + (Q > 1 ? q : 0);
        const Scalar* from = s.sum.data() + p * lanes;
        for (std::int64_t c = 0; c < count; ++c)
          out[c * Q] = rank ? out[c * Q] + from[c] : from[c];
      }
    }
  }
}

template <class Real, class Scalar>
inline void pair_cells(const FieldPair<Real, Scalar>& f, std::int64_t layer, std::int64_t first,
                       std::int64_t count, const Scalar* left, const Scalar* right, Scalar* target,
                       PairScratch<Real, Scalar>& s) {
  pair_cells_generic(f, layer, first, count, left, right, target, s);
}

// The same for real numbers, compiled once per instruction set.
TORCH_SLA_CLONES
static void pair_cells(const FieldPair<double, double>& f, std::int64_t layer, std::int64_t first,
                       std::int64_t count, const double* left, const double* right, double* target,
                       PairScratch<double, double>& s) {
  pair_cells_generic(f, layer, first, count, left, right, target, s);
}

}  // namespace detail

// target[part][batch][cell][point] = the derivative of `left^T A right` in the coefficients of A.
// left, right [batch][n_nodes][components][rank], the columns of both going together
template <class Real, class Scalar>
void pair_fields(const FieldPair<Real, Scalar>& f, const Scalar* left, const Scalar* right,
                 Scalar* target, int threads) {
  parallel_for(f.cells, threads, [&](std::int64_t begin, std::int64_t end, int) {
    detail::PairScratch<Real, Scalar> scratch(f);
    for (std::int64_t layer = 0; layer < f.batch; ++layer)
      for (std::int64_t first = begin; first < end; first += detail::lanes)
        detail::pair_cells(f, layer, first, std::min<std::int64_t>(detail::lanes, end - first),
                           left, right, target, scratch);
  });
}

}  // namespace torch_sla
