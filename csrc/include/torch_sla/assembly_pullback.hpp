// Pull-back of form coefficients from space to the reference cell, and its adjoint.
//
// At each quadrature point a bilinear form is a small matrix C[m][n] over the jets (value, derivatives)
// of the test and the trial function. With P = diag(1, G), G = dX/dx, the pulled-back coefficients are
//   R = measure * P_test * C * P_trial^T,          adjoint:  C' = measure * P_test^T * R' * P_trial.
#pragma once

#include <cstdint>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

// Sizes of a pull-back. Coefficients are laid out C[a][m][b][n][batch][site][point], the result
// R[a][b][batch][site][point][m][n], both contiguous; a and b count components, m and n slots of the
// jets. Extents of sites and points that coefficients share are given as 1.
struct PullbackShape {
  std::int64_t test_components, trial_components, batch, sites, points;
  std::int64_t coefficient_sites, coefficient_points;  // 1, or sites and points
  std::int64_t geometry_points;                        // 1 or points
};

namespace detail {

// T = P C for the slots of one argument; `Value` tells whether slot 0 is the value.
template <int Dim, bool Value, bool Gradient, bool Transposed, class Real, class Scalar>
inline void transform(const Real* G, const Scalar* in, Scalar* out, int stride) {
  constexpr int first = Value ? 1 : 0;
  if (Value) out[0] = in[0];
  if (Gradient) {
    for (int m = 0; m < Dim; ++m) {
      Scalar sum = Scalar(0);
      for (int a = 0; a < Dim; ++a)
        sum += (Transposed ? G[a * Dim + m] : G[m * Dim + a]) * in[(first + a) * stride];
      out[(first + m) * stride] = sum;
    }
  }
}

// Both sides of one point, in place order [m][n].
template <int Dim, bool TestValue, bool TestGradient, bool TrialValue, bool TrialGradient,
          bool Transposed, class Real, class Scalar>
inline void transform_point(const Real* G, Real measure, const Scalar* in, Scalar* out) {
  constexpr int M = (TestValue ? 1 : 0) + (TestGradient ? Dim : 0);
  constexpr int N = (TrialValue ? 1 : 0) + (TrialGradient ? Dim : 0);
  Scalar half[M * N];
  for (int m = 0; m < M; ++m)
    transform<Dim, TrialValue, TrialGradient, Transposed>(G, in + m * N, half + m * N, 1);
  Scalar full[M * N];
  for (int n = 0; n < N; ++n)
    transform<Dim, TestValue, TestGradient, Transposed>(G, half + n, full + n, N);
  for (int i = 0; i < M * N; ++i) out[i] = measure * full[i];
}

}  // namespace detail

// R = measure P C P^T for all sites and points.
// C        [a][m][b][n][batch][coefficient_sites][coefficient_points]
// inverse  [sites][geometry_points][Dim][Dim]
// measure  [sites][geometry_points]
// R        [a][b][batch][sites][points][m][n]
template <int Dim, bool TestValue, bool TestGradient, bool TrialValue, bool TrialGradient,
          class Real, class Scalar>
void pull_back(const PullbackShape& s, const Scalar* C, const Real* inverse, const Real* measure,
               Scalar* R, int threads) {
  constexpr int M = (TestValue ? 1 : 0) + (TestGradient ? Dim : 0);
  constexpr int N = (TrialValue ? 1 : 0) + (TrialGradient ? Dim : 0);
  const std::int64_t plane = s.coefficient_sites * s.coefficient_points;
  const std::int64_t step_n = s.batch * plane, step_m = s.trial_components * N * step_n;
  const std::int64_t site_step = s.coefficient_sites == 1 ? 0 : s.coefficient_points;
  const std::int64_t point_step = s.coefficient_points == 1 ? 0 : 1;
  const std::int64_t geometry_step = s.geometry_points == 1 ? 0 : 1;
  parallel_for(s.sites, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t a = 0; a < s.test_components; ++a)
      for (std::int64_t b = 0; b < s.trial_components; ++b)
        for (std::int64_t l = 0; l < s.batch; ++l) {
          const Scalar* base = C + (a * M * s.trial_components + b) * N * step_n + l * plane;
          Scalar* out = R + ((a * s.trial_components + b) * s.batch + l) * s.sites * s.points * M * N +
                        begin * s.points * M * N;
          for (std::int64_t i = begin; i < end; ++i)
            for (std::int64_t q = 0; q < s.points; ++q, out += M * N) {
              const Scalar* at = base + i * site_step + q * point_step;
              const std::int64_t g = i * s.geometry_points + q * geometry_step;
              Scalar in[M * N];
              for (int m = 0; m < M; ++m)
                for (int n = 0; n < N; ++n) in[m * N + n] = at[m * step_m + n * step_n];
              detail::transform_point<Dim, TestValue, TestGradient, TrialValue, TrialGradient, false>(
                  inverse + g * Dim * Dim, measure[g], in, out);
            }
        }
  });
}

// The adjoint: C' = measure P^T R' P, summed over the points where the coefficients share them.
// C' always has all sites; a caller whose coefficients share sites sums over them.
// R' [a][b][batch][sites][points][m][n]
// C' [a][m][b][n][batch][sites][coefficient_points]
template <int Dim, bool TestValue, bool TestGradient, bool TrialValue, bool TrialGradient,
          class Real, class Scalar>
void pull_back_adjoint(const PullbackShape& s, const Scalar* R, const Real* inverse,
                       const Real* measure, Scalar* C, int threads) {
  constexpr int M = (TestValue ? 1 : 0) + (TestGradient ? Dim : 0);
  constexpr int N = (TrialValue ? 1 : 0) + (TrialGradient ? Dim : 0);
  const std::int64_t plane = s.sites * s.coefficient_points;
  const std::int64_t step_n = s.batch * plane, step_m = s.trial_components * N * step_n;
  const std::int64_t geometry_step = s.geometry_points == 1 ? 0 : 1;
  const bool shared = s.coefficient_points == 1;
  parallel_for(s.sites, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t a = 0; a < s.test_components; ++a)
      for (std::int64_t b = 0; b < s.trial_components; ++b)
        for (std::int64_t l = 0; l < s.batch; ++l) {
          Scalar* base = C + (a * M * s.trial_components + b) * N * step_n + l * plane;
          const Scalar* in =
              R + ((a * s.trial_components + b) * s.batch + l) * s.sites * s.points * M * N +
              begin * s.points * M * N;
          for (std::int64_t i = begin; i < end; ++i) {
            Scalar sum[M * N];
            for (int k = 0; k < M * N; ++k) sum[k] = Scalar(0);
            for (std::int64_t q = 0; q < s.points; ++q, in += M * N) {
              const std::int64_t g = i * s.geometry_points + q * geometry_step;
              Scalar point[M * N];
              detail::transform_point<Dim, TestValue, TestGradient, TrialValue, TrialGradient, true>(
                  inverse + g * Dim * Dim, measure[g], in, point);
              for (int k = 0; k < M * N; ++k) sum[k] += point[k];
              if (shared && q + 1 < s.points) continue;
              Scalar* at = base + i * s.coefficient_points + (shared ? 0 : q);
              for (int m = 0; m < M; ++m)
                for (int n = 0; n < N; ++n) {
                  at[m * step_m + n * step_n] = sum[m * N + n];
                  sum[m * N + n] = Scalar(0);
                }
            }
          }
        }
  });
}

}  // namespace torch_sla
