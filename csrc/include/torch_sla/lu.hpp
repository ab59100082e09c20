// Multifrontal LU of an unsymmetric matrix on the pattern of A + A^T, with pivots among a front's own rows.
#pragma once

#include <complex>
#include <memory>
#include <utility>

#include "cholesky_factor.hpp"
#include "cholesky_memory.hpp"
#include "lane_places.hpp"
#include "lu_front.hpp"

namespace torch_sla {

// P A Q = L U by fronts. Front a has L below and U on and above the diagonal of its panel in `lower`, and the rest of
// its rows of U, transposed, in `upper`. Its row j was its local row pivot[first[a] + j].
template <class T>
struct LuFactor {
  std::shared_ptr<const Symbolic> symbolic;
  Buffer<T> lower, upper;
  std::vector<std::int64_t> across;  // [supernodes + 1] offsets into `upper`
  std::vector<std::int32_t> pivot;   // [n]
  std::int64_t interchanged = 0;     // rows that left their place
  bool odd = false;                  // parity of the interchanges

  std::int64_t bytes() const {
    return (lower.size() + upper.size()) * static_cast<std::int64_t>(sizeof(T)) +
           static_cast<std::int64_t>(8 * across.size() + 4 * pivot.size());
  }
};

namespace detail {

// Front a from entries of A and what its children left.
template <class T>
void assemble_lu(const Symbolic& s, const lanes::Places& places, std::int32_t a, const T* values, T* lower, T* upper,
                 T* const* update_of) {
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns;
  T* update = update_of[a];
  std::fill(lower, lower + rows * columns, T(0));
  std::fill(upper, upper + below * columns, T(0));
  for (std::int64_t e = s.entry_start[a]; e < s.entry_start[a + 1]; ++e) {
    const std::int32_t source = s.entry_source[e];
    const Size target = s.entry_target[e], j = target / rows, i = target % rows;
    const std::int32_t under = places.slot[source], above = places.slot[places.mirror[source]];
    if (under >= 0) lower[target] = values[under];
    if (above >= 0) (i < columns ? lower[i * rows + j] : upper[j * below + i - columns]) = values[above];
  }
  const std::int32_t from = s.child_start[a], to = s.child_start[a + 1];
  if (from < to) std::fill(update, update + below * below, T(0));
  for (std::int32_t k = from; k < to; ++k) {
    const std::int32_t c = s.child[k];
    const Size m = s.below(c);
    const T* u = update_of[c];
    const std::int32_t* relative = s.relative.data() + s.row_start[c];
    Size split = 0;  // rows of the child that are the parent's own
    while (split < m && relative[split] < columns) ++split;
    for (Size j = 0; j < m; ++j, u += m) {
      const Size column = relative[j];
      if (j < split) {
        T* into = lower + column * rows;
        for (Size i = 0; i < m; ++i) into[relative[i]] += u[i];
        continue;
      }
      T* across = upper + column - columns;
      for (Size i = 0; i < split; ++i) across[relative[i] * below] += u[i];
      T* into = update + (column - columns) * below - columns;
      for (Size i = split; i < m; ++i) into[relative[i]] += u[i];
    }
  }
}

}  // namespace detail

// Factorises `values` [values of A]; `places` tells where the analysed pattern finds them. Returns the column without
// a usable pivot among the rows of its front, or -1.
template <class T>
BadColumn factorize_lu(LuFactor<T>& f, const lanes::Places& places, const T* values, const Schedule& plan,
                       const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  f.pivot.resize(s.n);
  std::vector<std::int32_t> swapped(s.n);
  const BadColumn bad = multifrontal<T>(s, plan, [&](std::int32_t a, T* const* update_of, int team) -> Size {
    const Size rows = s.rows(a), columns = s.columns(a), begin = s.first[a];
    T *lower = f.lower.data() + s.panel[a], *upper = f.upper.data() + f.across[a];
    detail::assemble_lu(s, places, a, values, lower, upper, update_of);
    std::int32_t *local = f.pivot.data() + begin, *change = swapped.data() + begin;
    for (Size j = 0; j < columns; ++j) local[j] = change[j] = static_cast<std::int32_t>(j);
    LuFront<T> front(blas, rows, columns, lower, upper, change, team);
    if (!front.factorize()) return 0;
    for (Size j = 0; j < columns; ++j) std::swap(local[j], local[change[j]]);
    front.subtract(update_of[a], s.child_start[a] == s.child_start[a + 1]);
    return -1;
  });
  for (std::int32_t a = 0; a < s.supernodes(); ++a)
    for (std::int32_t j = s.first[a]; j < s.first[a + 1]; ++j) {
      f.odd ^= swapped[j] != j - s.first[a];
      f.interchanged += f.pivot[j] != j - s.first[a];
    }
  return bad;
}

inline std::vector<std::int64_t> across_offsets(const Symbolic& s) {
  std::vector<std::int64_t> out(s.supernodes() + 1, 0);
  for (std::int32_t a = 0; a < s.supernodes(); ++a)
    out[a + 1] = out[a] + static_cast<std::int64_t>(s.below(a)) * s.columns(a);
  return out;
}

// log|det A| and the phase of det A.
template <class T>
std::pair<double, std::complex<double>> log_determinant(const LuFactor<T>& f) {
  const Symbolic& s = *f.symbolic;
  double log = 0;
  std::complex<double> phase = f.odd ? -1 : 1;
  for (std::int32_t a = 0; a < s.supernodes(); ++a)
    for (std::int64_t j = 0; j < s.columns(a); ++j) {
      const std::complex<double> u(f.lower.data()[s.panel[a] + j * s.rows(a) + j]);
      log += std::log(std::abs(u));
      phase *= u / std::abs(u);
    }
  return {log, phase};
}

}  // namespace torch_sla
