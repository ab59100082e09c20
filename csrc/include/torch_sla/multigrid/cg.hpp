// Preconditioned conjugate gradients with few passes over memory.
//
// Per iteration: (1) x += alpha p, p = z + beta p in one pass; (2) q = A p with p . q, on lattices in the same;
// (3) r -= alpha q with ||r||^2, the rounded right-hand side of the preconditioner and its first
// smoothing half step while the rows are in cache; (4) the cycle, whose last pass yields r . z.
// r is scaled by its norm before it is rounded to V: CG does not see a constant factor of z.
#pragma once

#include <cmath>
#include <optional>

#include "rows.hpp"

namespace torch_sla::multigrid {

enum class Status { converged, maxiter, stagnation, breakdown, nonfinite };

struct SolveOptions {
  double rtol = 1e-8, atol = 0.0;
  int maxiter = 500, restart = 50;
  bool flexible = false;  // Polak-Ribiere beta, for preconditioners that are not linear

  SolveOptions after(int steps) const {  // what is left once so many steps were taken
    SolveOptions rest = *this;
    rest.maxiter -= steps;
    return rest;
  }
};

struct SolveReport {
  Status status = Status::maxiter;
  int iterations = 0;
  double residual = 0.0;        // ||b - A x||, recomputed
  std::vector<double> history;  // ||r|| of the recurrence, from iteration 0
  // Of the solution: largest entries of b - A x, x and b, and ||b||. None where they were not looked at.
  std::optional<std::array<double, 4>> sizes;
};

// What the pass that forms b - A x finds out.
struct ResidualSizes {
  double square = 0.0, left = 0.0, x = 0.0, b = 0.0;  // sum of squares, and largest entries
  ResidualSizes& operator+=(const ResidualSizes& o) {
    square += o.square;
    left = std::max(left, o.left);
    x = std::max(x, o.x);
    b = std::max(b, o.b);
    return *this;
  }
};

// Removes the components along `count` orthonormal vectors [count, n].
template <class T>
void project(const T* basis, int count, T* x, std::int64_t n) {
  for (int k = 0; k < count; ++k) {
    const T* v = basis + k * n;
    double dot = 0.0;
    for (std::int64_t e = 0; e < n; ++e) dot += double(v[e]) * double(x[e]);
    for (std::int64_t e = 0; e < n; ++e) x[e] -= T(dot) * v[e];
  }
}

// Solves A x = b from the x given. `Runner` has rhs(), stage(begin, end) in rows of block() unknowns,
// run() and result(), as CycleRunner. nullspace: orthonormal vectors of A, to which b and x are kept orthogonal.
template <class T, class I, class Runner>
SolveReport conjugate_gradients(const Rows<T, I>& A, const T* b, T* x, bool zero_start, Runner& M,
                                const SolveOptions& o, const T* nullspace, int nullity) {
  using V = typename Runner::Element;
  SolveReport report;
  const std::int64_t n = A.n;
  const int threads = A.threads;
  Buffer<T> r(n), p(n), q(n), projected;  // q is first written by a product
  if (nullity) {
    projected.assign(b, b + n);
    project(nullspace, nullity, projected.data(), n);
    b = projected.data();
  }
  const double bnorm = std::sqrt(A.template sweep<1>([&](std::int64_t from, std::int64_t to, std::array<double, 1>& s) {
    for (std::int64_t e = from; e < to; ++e) s[0] += double(b[e]) * double(b[e]);
    if (zero_start) std::fill(x + from, x + to, T(0));
  })[0]);
  if (!std::isfinite(bnorm)) {
    report.status = Status::nonfinite;
    report.residual = bnorm;
    return report;
  }
  const double target = std::max(o.rtol * bnorm, o.atol);
  double rnorm = bnorm, rho = 0.0, alpha = 0.0, best = 0.0;
  int since_best = 0, restarts = 0;

  // Rows of r, made by value(e), in chunks that stay in cache while the preconditioner takes its share.
  const int mb = M.block();
  const auto update = [&](auto&& value, double scale) {
    V* f = M.rhs();
    return parallel_sum(n / mb, threads, [&](std::int64_t begin, std::int64_t end) {
      double total = 0.0;
      for (std::int64_t from = begin; from < end; from += kChunk) {
        const std::int64_t to = std::min(end, from + kChunk);
        double part[4] = {};  // sums that do not wait for each other
        const auto row = [&](std::int64_t e, double& sum) {
          const T v = value(e);
          r[e] = v;
          f[e] = V(v * T(scale));
          sum += double(v) * double(v);
        };
        std::int64_t e = from * mb;
        for (; e + 4 <= to * mb; e += 4)
          for (int k = 0; k < 4; ++k) row(e + k, part[k]);
        for (; e < to * mb; ++e) row(e, part[0]);
        total += (part[0] + part[1]) + (part[2] + part[3]);
        M.stage(from, to);
      }
      return total;
    });
  };
  bool fresh = true;  // r is to be computed from x
  double beta = 0.0, scale = 1.0;  // the preconditioner sees scale * r
  while (true) {
    if (fresh) {
      const bool zero = zero_start && restarts == 0;
      if (!zero) rnorm = A.residual(b, x, r.data());
      report.residual = rnorm;
      if (report.history.empty()) report.history.push_back(rnorm);
      if (!std::isfinite(rnorm)) report.status = Status::nonfinite;
      else if (rnorm <= target) report.status = Status::converged;
      if (!std::isfinite(rnorm) || rnorm <= target) return report;
      if (restarts == 0) best = rnorm;
      if (report.iterations >= o.maxiter) {
        report.status = Status::maxiter;
        return report;
      }
      scale = power_of_two_below(rnorm);
      const T* from = zero ? b : r.data();
      update([from](std::int64_t e) { return from[e]; }, scale);
      rho = M.run();
      beta = 0.0;
      alpha = 0.0;
      fresh = false;
    }
    const V* z = M.result();
    const auto advance = [&](std::int64_t begin, std::int64_t end) {
      if (beta == 0.0) {
        for (std::int64_t e = begin; e < end; ++e) {
          if (alpha != 0.0) x[e] += T(alpha) * p[e];
          p[e] = T(z[e]);
        }
      } else {
        const T a = T(alpha), c = T(beta);
        for (std::int64_t e = begin; e < end; ++e) {
          const T old = p[e];
          x[e] += a * old;
          p[e] = T(z[e]) + c * old;
        }
      }
    };
    const auto product = [&](std::int64_t i, T ap, std::array<double, 1>& s) {
      s[0] += double(ap) * double(p[i]);
      return ap;
    };
    double curvature;
    if (nullity) {  // all of p is there before it is projected
      advance(0, n);
      project(nullspace, nullity, p.data(), n);
      curvature = A.template multiply<1>(p.data(), q.data(), product)[0];
    } else {
      curvature = A.template multiply_after<1>(advance, p.data(), q.data(), product)[0];
    }
    const bool finite = std::isfinite(rho) && std::isfinite(curvature);
    if (!finite || !(rho > 0.0) || !(curvature > 0.0)) {
      report.status = finite ? Status::breakdown : Status::nonfinite;
      report.residual = A.residual(b, x, r.data());
      if (report.residual <= target) report.status = Status::converged;
      return report;
    }
    const double before = rho / scale;  // r . z
    alpha = before / curvature;
    scale = power_of_two_below(rnorm);
    const T step = T(alpha);
    rnorm = std::sqrt(update([&](std::int64_t e) { return r[e] - step * q[e]; }, scale));
    ++report.iterations;
    report.history.push_back(rnorm);
    if (rnorm < 0.9 * best) {
      best = rnorm;
      since_best = 0;
    } else {
      ++since_best;
    }
    const bool stuck = since_best >= 200 || !std::isfinite(rnorm);
    if (rnorm <= target || report.iterations >= o.maxiter || stuck) {
      const auto arrive = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t e = begin; e < end; ++e) x[e] += step * p[e];
      };
      const auto left = [&](std::int64_t i, T ax, ResidualSizes& s) {
        const T v = b[i] - ax;
        s += {double(v) * double(v), std::abs(double(v)), std::abs(double(x[i])), std::abs(double(b[i]))};
        return v;
      };
      const auto sizes = A.template gather_after<ResidualSizes>(arrive, x, q.data(), left);
      report.residual = std::sqrt(sizes.square);
      if (!nullity) report.sizes = {sizes.left, sizes.x, sizes.b, bnorm};
      if (!std::isfinite(report.residual)) report.status = Status::nonfinite;
      else if (report.residual <= target) report.status = Status::converged;
      else if (stuck || restarts == 3) report.status = Status::stagnation;
      else if (report.iterations >= o.maxiter) report.status = Status::maxiter;
      else {
        // The recurrence has drifted from the true residual: go on from the latter.
        ++restarts;
        fresh = true;
        continue;
      }
      if (nullity && std::isfinite(report.residual)) project(nullspace, nullity, x, n);
      return report;
    }
    rho = M.run();
    if (o.flexible) {
      const V* znew = M.result();
      const double cross = parallel_sum(n, threads, [&](std::int64_t begin, std::int64_t end) {
        double total = 0.0;
        for (std::int64_t e = begin; e < end; ++e) total += double(znew[e]) * double(q[e]);
        return total;
      });
      beta = -alpha * cross / before;
    } else {
      beta = (rho / scale) / before;
    }
  }
}

}  // namespace torch_sla::multigrid
