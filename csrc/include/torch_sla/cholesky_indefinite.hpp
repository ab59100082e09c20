// Symmetric indefinite factorisation on the same fronts: pivots chosen inside each supernode.
#pragma once

#include <algorithm>
#include <limits>
#include <mutex>

#include "cholesky_factor.hpp"
#include "cholesky_object.hpp"
#include "cholesky_pivoting.hpp"

namespace torch_sla {

// Rows whose diagonal is weak, paired with the neighbour they are coupled to most, so that a 2x2 pivot
// exists where a 1x1 pivot would vanish (I. S. Duff, S. Pralet, SIAM J. Matrix Anal. Appl. 27,
// 313-340, 2005). mates[i] = j and mates[j] = i, else -1; returns the number of pairs.
template <class T, class Index>
std::int64_t match_weak_rows(std::int64_t n, const Index* start, const Index* column, const T* values,
                             Real<T> threshold, std::int32_t* mates) {
  std::fill(mates, mates + n, -1);
  std::vector<Real<T>> largest(n, 0), own(n, 0);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t e = start[i]; e < start[i + 1]; ++e) {
      const Real<T> size = magnitude(values[e]);
      if (column[e] == i)
        own[i] = size;
      else
        largest[i] = std::max(largest[i], size);
    }
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (mates[i] >= 0 || own[i] > threshold * largest[i] || largest[i] == 0) continue;
    std::int64_t best = -1;
    Real<T> score = 0;
    for (std::int64_t e = start[i]; e < start[i + 1]; ++e) {
      const std::int64_t j = column[e];
      if (j == i || mates[j] >= 0) continue;
      const Real<T> relative = magnitude(values[e]) / std::max(largest[j], own[j]);
      if (relative > score) score = relative, best = j;
    }
    if (best < 0) continue;
    mates[i] = static_cast<std::int32_t>(best);
    mates[best] = static_cast<std::int32_t>(i);
    ++pairs;
  }
  return pairs;
}

// Powers of two s with max_j |s_i a_ij s_j| near one for every row: exact to apply. Three sweeps of
// dividing by the root of the largest entry (D. Ruiz, RAL-TR-2001-034).
template <class T, class Index>
void symmetric_scale(std::int64_t n, const Index* start, const Index* column, const T* values, Real<T>* scale) {
  std::fill(scale, scale + n, Real<T>(1));
  for (int sweep = 0; sweep < 3; ++sweep) {
    std::vector<Real<T>> next(n);
    for (std::int64_t i = 0; i < n; ++i) {
      Real<T> largest = 0;
      for (std::int64_t e = start[i]; e < start[i + 1]; ++e)
        largest = std::max(largest, magnitude(values[e]) * scale[column[e]]);
      largest *= scale[i];
      int exponent = 1;
      if (largest > 0 && std::isfinite(largest)) std::frexp(std::sqrt(largest), &exponent);
      next[i] = std::ldexp(scale[i], 1 - exponent);
    }
    std::copy(next.begin(), next.end(), scale);
  }
}

namespace detail {

// L21 of a front from A21: columns permuted as the pivots were, divided by L11^op, leaving W = L21 D in
// `w`; then by D.
template <class T>
void finish_rows(const Blas<T>& blas, const Factor<T>& f, Size begin, Size rows, Size columns, T* panel, T* w) {
  const Size below = rows - columns;
  const bool conj = f.conj() == Conj::yes;
  const std::int32_t* pivot = f.pivot.data() + begin;
  for (Size j = 0; j < columns; ++j) {
    const T* from = panel + pivot[j] * rows + columns;
    std::copy(from, from + below, w + j * below);
  }
  if (blas.complete() && columns >= kSmallColumns && below >= kSmallColumns) {
    for (Size i = 0; i < below; i += kTile) {
      check_interrupt();
      call_trsm<T>(blas, 'R', 'L', transpose_flag<T>(f.conj()), 'U', static_cast<int>(std::min(kTile, below - i)),
                   static_cast<int>(columns), panel, static_cast<int>(rows), w + i, static_cast<int>(below));
    }
  } else {
    for (Size j = 0; j < columns; j += 8) {
      const Size end = std::min(columns, j + 8);
      if (j > 0)
        subtract_product(blas, f.conj(), false, false, below, end - j, j, w, below, panel + j, rows, w + j * below,
                         below);
      for (Size p = j; p < end; ++p)
        for (Size q = j; q < p; ++q) {
          const T l = conj ? conjugate(panel[q * rows + p]) : panel[q * rows + p];
          for (Size i = 0; i < below; ++i) w[p * below + i] -= product(w[q * below + i], l);
        }
    }
  }
  for (Size j = 0; j < columns; ++j) {
    T* l = panel + j * rows + columns;
    const T* x = w + j * below;
    if (f.width[begin + j] == 1) {
      const T inverse = T(1) / f.diagonal[begin + j];
      for (Size i = 0; i < below; ++i) l[i] = product(x[i], inverse);
    } else if (f.width[begin + j] == 2) {
      T* m = l + rows;
      const T* y = x + below;
      const T lower = f.coupling[begin + j], upper = conj ? conjugate(lower) : lower;
      const T p = f.diagonal[begin + j] / lower, q = f.diagonal[begin + j + 1] / upper;
      const T det = product(p, q) - T(1), first = T(1) / (lower * det), second = T(1) / (upper * det);
      const T back = lower / upper, forth = upper / lower;
      for (Size i = 0; i < below; ++i) {
        const T u = x[i], v = y[i];
        l[i] = product(product(q, u) - product(v, back), first);
        m[i] = product(product(p, v) - product(u, forth), second);
      }
    }
  }
}

}  // namespace detail

// L D L^op = P S A S P^T; `f` arrives with kind, symbolic, panels and scale set. Negligible pivots are
// perturbed and counted, so only NaN and infinity stop it: returns the column, or -1. Where such pivots
// were found, `stuck` names fronts that would have had more rows to choose from as part of their parents.
template <class T>
BadColumn indefinite(Factor<T>& f, const T* values, const Schedule& plan, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  f.pivot.assign(s.n, 0);
  f.width.assign(s.n, 1);
  f.diagonal.assign(s.n, T(0));
  f.coupling.assign(s.n, T(0));
  Real<T> largest = 0;
  for (std::int64_t e = 0; e < s.nnz; ++e) largest = std::max(largest, magnitude(values[e]));
  // A pivot with rows below it that could not be searched may grow them; sqrt(eps) balances that growth
  // against the perturbation. A front with no such rows pivots fully: only noise is negligible there.
  const Real<T> eps = std::numeric_limits<Real<T>>::epsilon(), least = std::numeric_limits<Real<T>>::min();
  const Real<T> restricted = std::max(std::sqrt(eps) * largest, least), free = std::max(16 * eps * largest, least);
  std::mutex guard;
  const BadColumn bad = multifrontal<T>(
      s, values, f.panels.data(), plan,
      [&](std::int32_t a, T* panel, T* update, bool fresh, int team) -> Size {
        const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
        std::vector<T> work;
        std::int64_t perturbed = 0;
        Pivots<T> pivots{f.pivot.data() + begin, f.width.data() + begin, f.diagonal.data() + begin,
                         f.coupling.data() + begin};
        BunchKaufman<T>(blas, f.conj(), columns, panel, rows, below > 0 ? restricted : free, pivots, work, perturbed)
            .run();
        if (perturbed > 0) {
          const std::lock_guard<std::mutex> lock(guard);
          f.perturbed += perturbed;
          if (s.parent[a] >= 0) f.stuck.push_back(s.order[s.first[a + 1] - 1]);
        }
        for (Size j = 0; j < columns; ++j)
          if (!is_finite(pivots.diagonal[j]) || !is_finite(pivots.coupling[j])) return pivots.local[j];
        if (below > 0) {
          const Buffer<T> w(below * columns);
          detail::finish_rows(blas, f, begin, rows, columns, panel, w.data());
          subtract_update<T>(blas, f.conj(), fresh, below, columns, panel + columns, rows, w.data(), below, update,
                             below, team);
        }
        return -1;
      });
  std::sort(f.stuck.begin(), f.stuck.end());  // threads found them in any order
  return bad;
}

// Signs of the pivots: the inertia of A, by Sylvester's law.
struct Inertia {
  std::int64_t positive = 0, negative = 0, zero = 0;
};

template <class T>
Inertia inertia(const Factor<T>& f) {
  Inertia count;
  if (!f.pivoted()) {
    count.positive = f.symbolic->n;
    return count;
  }
  const auto add = [&](Real<T> x) { ++(x > 0 ? count.positive : x < 0 ? count.negative : count.zero); };
  for (std::int32_t j = 0; j < f.symbolic->n; ++j) {
    if (f.width[j] == 1) add(real_part(f.diagonal[j]));
    if (f.width[j] != 2) continue;
    const Real<T> size = std::abs(f.coupling[j]);
    const Real<T> p = real_part(f.diagonal[j]) / size, q = real_part(f.diagonal[j + 1]) / size;
    if (p * q < 1) {
      ++count.positive, ++count.negative;
    } else {
      add(p), add(q);
    }
  }
  return count;
}

// log|det A| and the phase of det A (a sign for Hermitian A).
template <class T>
struct LogDeterminant {
  double log = 0;
  std::complex<double> phase = 1;
};

template <class T>
LogDeterminant<T> log_determinant(const Factor<T>& f) {
  const Symbolic& s = *f.symbolic;
  LogDeterminant<T> out;
  const auto add = [&](std::complex<double> x) {
    out.log += std::log(std::abs(x));
    out.phase *= x / std::abs(x);
  };
  if (!f.pivoted()) {
    for (std::int32_t a = 0; a < s.supernodes(); ++a)
      for (std::int64_t j = 0; j < s.columns(a); ++j)
        out.log += 2 * std::log(static_cast<double>(real_part(f.panels.data()[s.panel[a] + j * s.rows(a) + j])));
    return out;
  }
  for (std::int32_t j = 0; j < s.n; ++j) {
    if (f.width[j] == 1) add(std::complex<double>(f.diagonal[j]));
    if (f.width[j] != 2) continue;
    const std::complex<double> lower(f.coupling[j]);
    const std::complex<double> upper = f.conj() == Conj::yes ? std::conj(lower) : lower;
    const std::complex<double> det =
        std::complex<double>(f.diagonal[j]) / lower * (std::complex<double>(f.diagonal[j + 1]) / upper) - 1.0;
    add(lower);
    add(upper);
    add(det);
  }
  for (const Real<T> scale : f.scale) out.log -= 2 * std::log(static_cast<double>(scale));
  return out;
}

}  // namespace torch_sla
