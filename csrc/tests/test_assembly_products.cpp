#include <complex>

#include "check.hpp"
#include "torch_sla/assembly_products.hpp"

using namespace torch_sla;
using Complex = std::complex<double>;

// Small whole numbers, so that every sum is exact in any order.
template <class T>
std::vector<T> whole(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(T(static_cast<int>(random() % 9) - 4));
  return out;
}

// Against the definition: the jets of both fields at every point, multiplied slot by slot.
template <class T>
void check(std::int64_t cells, std::int64_t components, std::int64_t points, bool value, bool own_points,
           std::int64_t rank) {
  const std::int64_t local = 3, n_nodes = 7, batch = 2, jet = (value ? 1 : 0) + 2, parts = 2;
  const std::int64_t slots = components * components * jet * jet, Q = own_points ? points : 1;
  std::vector<std::int64_t> nodes;
  for (std::int64_t k = 0; k < cells * local; ++k) nodes.push_back((5 * k + k / 3) % n_nodes);
  const auto basis = whole<double>(points * 3 * local, 3), weights = whole<double>(points, 5);
  const auto inverse = whole<double>(cells * points * 4, 7), measure = whole<double>(cells * points, 11);
  const auto S = whole<T>(slots * parts, 13);
  const auto left = whole<T>(batch * n_nodes * components * rank, 17);
  const auto right = whole<T>(batch * n_nodes * components * rank, 19);

  FieldPair<double, T> f{};
  f.components = components, f.batch = batch, f.cells = cells, f.local = local, f.points = points;
  f.coefficient_points = Q, f.geometry_points = points, f.parts = parts, f.rank = rank;
  f.n_nodes = n_nodes, f.dim = 2;
  f.left_value = f.right_value = value, f.left_gradient = f.right_gradient = true;
  f.nodes = nodes.data(), f.basis = basis.data(), f.weights = weights.data();
  f.inverse = inverse.data(), f.measure = measure.data();
  f.pair(S.data());

  std::vector<T> expected(parts * batch * cells * Q, T(0));
  const auto jets = [&](const std::vector<T>& x, std::int64_t layer, std::int64_t cell, std::int64_t q,
                        std::int64_t k) {
    std::vector<T> out;
    for (std::int64_t a = 0; a < components; ++a)
      for (std::int64_t d = value ? -1 : 0; d < 2; ++d) {
        T sum(0);
        for (std::int64_t m = 0; m < 3; ++m)
          for (std::int64_t i = 0; i < local; ++i) {
            const double phi = basis[(q * 3 + m) * local + i];
            const double* G = inverse.data() + (cell * points + q) * 4;
            const double factor = d < 0 ? (m == 0 ? 1.0 : 0.0) : (m == 0 ? 0.0 : G[(m - 1) * 2 + d]);
            const std::int64_t dof = nodes[cell * local + i] * components + a;
            sum += factor * phi * x[(layer * n_nodes * components + dof) * rank + k];
          }
        out.push_back(sum);
      }
    return out;
  };
  for (std::int64_t layer = 0; layer < batch; ++layer)
    for (std::int64_t cell = 0; cell < cells; ++cell)
      for (std::int64_t q = 0; q < points; ++q)
        for (std::int64_t k = 0; k < rank; ++k) {
          const auto l = jets(left, layer, cell, q, k), r = jets(right, layer, cell, q, k);
          for (std::int64_t p = 0; p < parts; ++p)
            for (std::size_t i = 0; i < l.size(); ++i)
              for (std::size_t j = 0; j < r.size(); ++j)
                expected[((p * batch + layer) * cells + cell) * Q + (own_points ? q : 0)] +=
                    weights[q] * measure[cell * points + q] * S[(i * r.size() + j) * parts + p] * l[i] *
                    r[j];
        }
  for (const int threads : {1, 3}) {
    std::vector<T> found(expected.size(), T(99));
    pair_fields(f, left.data(), right.data(), found.data(), threads);
    CHECK(found == expected);
  }
}

int main() {
  for (const std::int64_t cells : {1, 16, 45})
    for (const std::int64_t components : {1, 2})
      for (const std::int64_t rank : {1, 2})
        for (const bool value : {false, true})
          for (const bool own : {false, true}) {
            check<double>(cells, components, 3, value, own, rank);
            check<Complex>(cells, components, 1, value, own, rank);
          }
  return failures();
}
