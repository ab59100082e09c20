// GMRES and BiCGStab around a cycle, preconditioned from the right, with few passes over memory.
//
// Saad and Schultz, SIAM J. Sci. Stat. Comput. 7, 1986, pages 856-869; van der Vorst, SIAM J. Sci.
// Stat. Comput. 13, 1992, pages 631-644. Each vector is read and written in chunks that stay in cache
// while everything that needs them is done: dot products with the step that makes a vector, the rounding
// to the precision of the cycle with the update of its argument.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "cg.hpp"

namespace torch_sla::multigrid {

// What both methods do before the first step and after the last: targets, true residuals, verdicts.
template <class T, class I>
struct Watch {
  const Rows<T, I>& A;
  const T* b;
  const SolveOptions& o;
  SolveReport& report;
  double target = 0.0;
  int idle = 0;

  // r = b - A x; true when the iteration is over.
  bool over(const T* x, T* r, bool zero, double before) {
    double norm;
    if (zero) {
      std::copy(b, b + A.n, r);
      norm = A.norm(b);
      target = std::max(o.rtol * norm, o.atol);
    } else {
      if (target == 0.0) target = std::max(o.rtol * A.norm(b), o.atol);
      norm = A.residual(b, x, r);
    }
    report.residual = norm;
    if (report.history.empty()) report.history.push_back(norm);
    report.history.back() = norm;
    if (!std::isfinite(norm)) report.status = Status::nonfinite;
    else if (norm <= target) report.status = Status::converged;
    else if (report.iterations >= o.maxiter) report.status = Status::maxiter;
    else {
      idle = norm > 0.999 * before ? idle + 1 : 0;
      if (idle < 3) return false;
      report.status = Status::stagnation;
    }
    return true;
  }
};

// GMRES(restart). The basis is orthogonalised by classical Gram-Schmidt; the second pass takes the dot
// products of the third while it subtracts, and the third is done only where cancellation asks for it.
template <class T, class I, class Runner>
SolveReport gmres(const Rows<T, I>& A, const T* b, T* x, bool zero_start, Runner& M, const SolveOptions& o) {
  SolveReport report;
  const std::int64_t n = A.n;
  const int restart = static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(o.restart, n)));
  if (zero_start) std::fill(x, x + n, T(0));
  Buffer<T> w(n), z(n);
  std::vector<Buffer<T>> basis;
  Watch<T, I> watch{A, b, o, report};
  double before = std::numeric_limits<double>::infinity();
  bool zero = zero_start;
  while (!watch.over(x, w.data(), zero, before)) {
    zero = false;
    before = report.residual;
    std::vector<std::vector<double>> R;  // columns of the triangular factor
    std::vector<double> g{before}, cs, sn;
    const auto store = [&](int j, double norm) {
      if (static_cast<int>(basis.size()) <= j) basis.emplace_back(n);
      T* to = basis[j].data();
      const T scale = T(1.0 / norm);
      parallel_for(n, A.threads, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t e = begin; e < end; ++e) to[e] = w[e] * scale;
      });
    };
    store(0, before);
    const double unit = power_of_two_below(1.0 / std::sqrt(double(n)));
    int j = 0;
    bool done = false;
    while (!done && j < restart && report.iterations < o.maxiter) {
      A.precondition(M, basis[j].data(), unit, z.data());
      const double size = std::sqrt(A.template multiply<1>(z.data(), w.data(), [](std::int64_t, T y, std::array<double, 1>& s) {
        s[0] += double(y) * double(y);
        return y;
      })[0]);
      std::vector<double> h(j + 2, 0.0);
      // Subtracts the projections `along` and returns the dot products and the norm of what is left.
      const auto pass = [&](const std::vector<double>& along, bool dots) {
        const int workers = worker_count(n, A.threads);
        std::vector<std::vector<double>> part(workers, std::vector<double>(j + 2, 0.0));
        parallel_for(n, A.threads, [&](std::int64_t begin, std::int64_t end, int worker) {
          auto& sums = part[worker];
          for (std::int64_t from = begin; from < end; from += kChunk) {
            const std::int64_t to = std::min(end, from + kChunk);
            for (int k = 0; k <= j && !along.empty(); ++k) {
              const T c = T(along[k]);
              const T* v = basis[k].data();
              for (std::int64_t e = from; e < to; ++e) w[e] -= c * v[e];
            }
            for (int k = 0; k <= j && dots; ++k) {
              const T* v = basis[k].data();
              double dot = 0.0;
              for (std::int64_t e = from; e < to; ++e) dot += double(v[e]) * double(w[e]);
              sums[k] += dot;
            }
            double own = 0.0;
            for (std::int64_t e = from; e < to; ++e) own += double(w[e]) * double(w[e]);
            sums[j + 1] += own;
          }
        });
        std::vector<double> total(j + 2, 0.0);
        for (const auto& p : part)
          for (int k = 0; k < j + 2; ++k) total[k] += p[k];
        total[j + 1] = std::sqrt(total[j + 1]);
        return total;
      };
      std::vector<double> first = pass({}, true);
      double left = first[j + 1];
      std::vector<double> second = pass(first, true);
      for (int k = 0; k <= j; ++k) h[k] = first[k];
      left = second[j + 1];
      if (left < 0.7 * size) {
        const std::vector<double> third = pass(second, false);
        for (int k = 0; k <= j; ++k) h[k] += second[k];
        left = third[j + 1];
      }
      const bool exhausted = !(left > 16 * std::numeric_limits<T>::epsilon() * size);
      h[j + 1] = exhausted ? 0.0 : left;
      for (int k = 0; k < j; ++k) {
        const double upper = cs[k] * h[k] + sn[k] * h[k + 1];
        h[k + 1] = -sn[k] * h[k] + cs[k] * h[k + 1];
        h[k] = upper;
      }
      const double d = std::hypot(h[j], h[j + 1]);
      ++report.iterations;
      if (!std::isfinite(d)) {
        report.status = Status::nonfinite;
        report.residual = d;
        return report;
      }
      if (!(d > 16 * std::numeric_limits<T>::epsilon() * size)) {  // nothing new in this direction
        report.history.push_back(std::abs(g[j]));
        break;
      }
      cs.push_back(h[j] / d);
      sn.push_back(h[j + 1] / d);
      g.push_back(-sn[j] * g[j]);
      g[j] *= cs[j];
      h[j] = d;
      h.resize(j + 1);
      R.push_back(std::move(h));
      ++j;
      report.history.push_back(std::abs(g[j]));
      done = std::abs(g[j]) <= watch.target || exhausted;
      if (!done && j < restart) store(j, left);
    }
    if (j == 0) {
      report.status = Status::breakdown;
      report.residual = before;
      return report;
    }
    std::vector<double> y(j);
    for (int k = j - 1; k >= 0; --k) {
      double sum = g[k];
      for (int c = k + 1; c < j; ++c) sum -= R[c][k] * y[c];
      y[k] = sum / R[k][k];
    }
    const double norm = std::sqrt(A.template sweep<1>([&](std::int64_t from, std::int64_t to, std::array<double, 1>& s) {
      for (std::int64_t e = from; e < to; ++e) w[e] = T(0);
      for (int k = 0; k < j; ++k) {
        const T c = T(y[k]);
        const T* v = basis[k].data();
        for (std::int64_t e = from; e < to; ++e) w[e] += c * v[e];
      }
      for (std::int64_t e = from; e < to; ++e) s[0] += double(w[e]) * double(w[e]);
    })[0]);
    A.precondition(M, w.data(), power_of_two_below(norm / std::sqrt(double(n))), z.data());
    parallel_for(n, A.threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) x[e] += z[e];
    });
  }
  return report;
}

template <class T, class I, class Runner>
SolveReport bicgstab(const Rows<T, I>& A, const T* b, T* x, bool zero_start, Runner& M, const SolveOptions& o) {
  SolveReport report;
  const std::int64_t n = A.n;
  if (zero_start) std::fill(x, x + n, T(0));
  Buffer<T> r(n), shadow(n), p(n), v(n), t(n), y(n), z(n);
  Watch<T, I> watch{A, b, o, report};
  double before = std::numeric_limits<double>::infinity();
  bool zero = zero_start;
  int breakdowns = 0;
  while (!watch.over(x, r.data(), zero, before)) {
    zero = false;
    before = report.residual;
    std::copy(r.begin(), r.end(), shadow.begin());
    std::copy(r.begin(), r.end(), p.begin());
    double rnorm = before, pnorm = before, rho = before * before;
    const double shadow_norm = before;
    const double root = std::sqrt(double(n));
    double best = before;
    int since = 0;
    while (true) {
      A.precondition(M, p.data(), power_of_two_below(pnorm / root), y.data());
      const double sv = A.template multiply<1>(y.data(), v.data(), [&](std::int64_t i, T a, std::array<double, 1>& s) {
        s[0] += double(shadow[i]) * double(a);
        return a;
      })[0];
      const double alpha = rho / sv;
      if (sv == 0.0 || !std::isfinite(alpha)) break;
      const double snorm = std::sqrt(A.template sweep<1>([&](std::int64_t from, std::int64_t to, std::array<double, 1>& s) {
        for (std::int64_t e = from; e < to; ++e) {
          r[e] -= T(alpha) * v[e];
          s[0] += double(r[e]) * double(r[e]);
        }
      })[0]);
      A.precondition(M, r.data(), power_of_two_below(snorm / root), z.data());
      const auto products = A.template multiply<2>(z.data(), t.data(), [&](std::int64_t i, T a, std::array<double, 2>& s) {
        s[0] += double(a) * double(r[i]);
        s[1] += double(a) * double(a);
        return a;
      });
      const double omega = products[1] > 0.0 ? products[0] / products[1] : 0.0;
      const auto after = A.template sweep<2>([&](std::int64_t from, std::int64_t to, std::array<double, 2>& s) {
        for (std::int64_t e = from; e < to; ++e) {
          x[e] += T(alpha) * y[e] + T(omega) * z[e];
          r[e] -= T(omega) * t[e];
          s[0] += double(r[e]) * double(r[e]);
          s[1] += double(shadow[e]) * double(r[e]);
        }
      });
      ++report.iterations;
      rnorm = std::sqrt(after[0]);
      report.history.push_back(rnorm);
      if (!std::isfinite(rnorm) || rnorm <= watch.target || report.iterations >= o.maxiter) break;
      since = rnorm < 0.9 * best ? 0 : since + 1;
      best = std::min(best, rnorm);
      if (since >= 200) break;
      const double next = after[1];
      constexpr double eps = std::numeric_limits<T>::epsilon();
      if (omega == 0.0 || std::abs(next) <= eps * eps * rnorm * shadow_norm) break;
      const double beta = next / rho * (alpha / omega);
      rho = next;
      pnorm = std::sqrt(A.template sweep<1>([&](std::int64_t from, std::int64_t to, std::array<double, 1>& s) {
        for (std::int64_t e = from; e < to; ++e) {
          p[e] = r[e] + T(beta) * (p[e] - T(omega) * v[e]);
          s[0] += double(p[e]) * double(p[e]);
        }
      })[0]);
    }
    // A vanishing inner product goes on from the true residual with a new shadow, three times.
    const bool failed = std::isfinite(rnorm) && rnorm > watch.target && report.iterations < o.maxiter;
    if (failed && ++breakdowns > 3) {
      report.residual = A.residual(b, x, r.data());
      report.status = since >= 200 ? Status::stagnation : Status::breakdown;
      if (report.residual <= watch.target) report.status = Status::converged;
      return report;
    }
  }
  return report;
}

}  // namespace torch_sla::multigrid
