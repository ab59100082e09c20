// Small dense matrices, row-major: inverses of diagonal blocks and of the coarsest matrix.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace torch_sla::multigrid {

// Share of its terms below which a sum is taken for their rounding: row sums of a coarse matrix carry that of all
// levels, in V.
template <class V>
constexpr double kSingular = sizeof(V) == 4 ? 1e-4 : 1e-10;

// Replaces the n x n matrix a by its inverse (Gauss-Jordan, pivoting by rows); false where singular.
template <class T>
bool invert(T* a, int n, int* pivot) {
  T scale = 0;
  for (int e = 0; e < n * n; ++e) scale = std::max(scale, std::abs(a[e]));
  const T tiny = scale * std::numeric_limits<T>::epsilon() * T(n);
  for (int k = 0; k < n; ++k) {
    int p = k;
    for (int r = k + 1; r < n; ++r)
      if (std::abs(a[r * n + k]) > std::abs(a[p * n + k])) p = r;
    pivot[k] = p;
    if (!(std::abs(a[p * n + k]) > tiny)) return false;
    if (p != k)
      for (int c = 0; c < n; ++c) std::swap(a[p * n + c], a[k * n + c]);
    const T inverse = T(1) / a[k * n + k];
    a[k * n + k] = T(1);
    for (int c = 0; c < n; ++c) a[k * n + c] *= inverse;
    for (int r = 0; r < n; ++r) {
      if (r == k) continue;
      const T factor = a[r * n + k];
      if (factor == T(0)) continue;
      a[r * n + k] = T(0);
      for (int c = 0; c < n; ++c) a[r * n + c] -= factor * a[k * n + c];
    }
  }
  for (int k = n - 1; k >= 0; --k)
    if (pivot[k] != k)
      for (int r = 0; r < n; ++r) std::swap(a[r * n + k], a[r * n + pivot[k]]);
  return true;
}

// Orthonormal basis (rows of the result) of the null space of a, by Gauss-Jordan elimination with
// full pivoting; pivots below `tolerance` times the largest entry count as zero. `smallest` receives the
// smallest pivot over the largest entry, whether it counted or not.
inline std::vector<double> nullspace(std::vector<double> a, int n, double tolerance, double* smallest) {
  double scale = 0;
  for (double v : a) scale = std::max(scale, std::abs(v));
  std::vector<int> order(n);
  for (int c = 0; c < n; ++c) order[c] = c;
  int rank = 0;
  for (; rank < n; ++rank) {
    int pr = rank, pc = rank;
    for (int r = rank; r < n; ++r)
      for (int c = rank; c < n; ++c)
        if (std::abs(a[r * n + c]) > std::abs(a[pr * n + pc])) { pr = r; pc = c; }
    *smallest = scale > 0 ? std::abs(a[pr * n + pc]) / scale : 0.0;
    if (!(std::abs(a[pr * n + pc]) > tolerance * scale)) break;
    for (int c = 0; c < n; ++c) std::swap(a[pr * n + c], a[rank * n + c]);
    for (int r = 0; r < n; ++r) std::swap(a[r * n + pc], a[r * n + rank]);
    std::swap(order[pc], order[rank]);
    const double inverse = 1.0 / a[rank * n + rank];
    for (int c = rank; c < n; ++c) a[rank * n + c] *= inverse;
    for (int r = 0; r < n; ++r) {
      if (r == rank || a[r * n + rank] == 0.0) continue;
      const double factor = a[r * n + rank];
      for (int c = rank; c < n; ++c) a[r * n + c] -= factor * a[rank * n + c];
    }
  }
  std::vector<double> basis(static_cast<std::size_t>(n - rank) * n, 0.0);
  for (int f = rank; f < n; ++f) {
    double* v = basis.data() + static_cast<std::size_t>(f - rank) * n;
    v[order[f]] = 1.0;
    for (int r = 0; r < rank; ++r) v[order[r]] = -a[r * n + f];
    for (int pass = 0; pass < 2; ++pass) {
      for (int g = rank; g < f; ++g) {
        const double* u = basis.data() + static_cast<std::size_t>(g - rank) * n;
        double dot = 0.0;
        for (int c = 0; c < n; ++c) dot += u[c] * v[c];
        for (int c = 0; c < n; ++c) v[c] -= dot * u[c];
      }
      double norm = 0.0;
      for (int c = 0; c < n; ++c) norm += v[c] * v[c];
      norm = std::sqrt(norm);
      for (int c = 0; c < n; ++c) v[c] /= norm;
    }
  }
  return basis;
}

// Replaces a by its pseudo-inverse: the inverse where it has one, else through
// (A + s U V^T)^-1 = A^+ + V U^T / s  with U, V orthonormal bases of the left and right null spaces.
// Returns the dimension of the null space, or -1 where even that fails.
inline int pseudo_invert(std::vector<double>& a, int n, double tolerance, double* smallest) {
  double scale = 0;
  *smallest = 0.0;
  for (double v : a) scale = std::max(scale, std::abs(v));
  if (!(scale > 0)) {
    std::fill(a.begin(), a.end(), 0.0);
    return n;
  }
  std::vector<double> right = nullspace(a, n, tolerance, smallest);
  const int nullity = static_cast<int>(right.size() / n);
  std::vector<double> left;
  if (nullity) {
    std::vector<double> transposed(a.size());
    for (int r = 0; r < n; ++r)
      for (int c = 0; c < n; ++c) transposed[c * n + r] = a[r * n + c];
    double other;
    left = nullspace(transposed, n, tolerance, &other);
    if (left.size() != right.size()) return -1;
    for (int k = 0; k < nullity; ++k)
      for (int r = 0; r < n; ++r)
        for (int c = 0; c < n; ++c) a[r * n + c] += scale * left[k * n + r] * right[k * n + c];
  }
  std::vector<int> pivot(n);
  if (!invert(a.data(), n, pivot.data())) return -1;
  for (int k = 0; k < nullity; ++k)
    for (int r = 0; r < n; ++r)
      for (int c = 0; c < n; ++c) a[r * n + c] -= right[k * n + r] * left[k * n + c] / scale;
  return nullity;
}

// The same under symmetric scaling by the diagonal, so that a jump of the coefficient does not pass for a null space.
inline int scaled_pseudo_invert(std::vector<double>& a, int n, double tolerance, double* smallest) {
  std::vector<double> scale(n, 1.0);
  for (int i = 0; i < n; ++i) {
    const double d = std::abs(a[std::size_t(i) * n + i]);
    if (d > 0.0) scale[i] = 1.0 / std::sqrt(d);
  }
  const auto rescale = [&] {
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) a[std::size_t(i) * n + j] *= scale[i] * scale[j];
  };
  rescale();
  const int nullity = pseudo_invert(a, n, tolerance, smallest);
  rescale();
  return nullity;
}

}  // namespace torch_sla::multigrid
