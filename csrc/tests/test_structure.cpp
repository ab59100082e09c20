// One pass over a CSR matrix: symmetry, mirror images, dominance, breadth-first search.
#include <complex>
#include <vector>

#include "check.hpp"
#include "torch_sla/structure.hpp"

using namespace torch_sla;

int main() {
  const std::vector<int> ptr{0, 2, 5, 7}, col{0, 1, 0, 1, 2, 1, 2};
  const std::vector<double> chain{2, -1, -1, 2, -1, -1, 2};
  auto f = matrix_flags(ptr.data(), col.data(), chain.data(), 3);
  CHECK(f.pattern && f.symmetric && f.hermitian && f.positive && f.dominant);
  auto neumann = chain;
  neumann[0] = neumann[6] = 1.0;
  f = matrix_flags(ptr.data(), col.data(), neumann.data(), 3);
  CHECK(f.symmetric && f.positive && !f.dominant);
  auto skew = chain;
  skew[1] = 1.0;
  CHECK(!matrix_flags(ptr.data(), col.data(), skew.data(), 3).symmetric);
  const std::vector<std::complex<double>> hermitian{2, {0, 1}, {0, -1}, 2, {0, 1}, {0, -1}, 2};
  const auto c = matrix_flags(ptr.data(), col.data(), hermitian.data(), 3);
  CHECK(c.hermitian && !c.symmetric && c.dominant);

  CHECK(is_csr(ptr.data(), col.data(), 3, 3, 7));
  CHECK(!is_csr(ptr.data(), col.data(), 3, 2, 7));
  CHECK(!is_csr(ptr.data(), col.data(), 3, 3, 6));
  const std::vector<int> falling{0, 2, 1, 7}, twice{0, 1, 1, 1, 2, 1, 2}, past{0, 9, 5, 7};
  CHECK(!is_csr(falling.data(), col.data(), 3, 3, 7));
  CHECK(!is_csr(ptr.data(), twice.data(), 3, 3, 7));
  CHECK(!is_csr(past.data(), col.data(), 3, 3, 7));

  std::vector<int> slot(7);
  CHECK(mirror_slots(ptr.data(), col.data(), 3, slot.data()));
  CHECK((slot == std::vector<int>{0, 2, 1, 3, 5, 4, 6}));
  const std::vector<int> upper{0, 2, 3, 4}, upper_col{0, 1, 1, 2};
  CHECK(!mirror_slots(upper.data(), upper_col.data(), 3, slot.data()));
  const std::vector<int> lower{0, 1, 3, 4}, lower_col{0, 0, 1, 2};
  CHECK(!mirror_slots(lower.data(), lower_col.data(), 3, slot.data()));
  const std::vector<double> four{1, 1, 1, 1};
  CHECK(!matrix_flags(lower.data(), lower_col.data(), four.data(), 3).pattern);
  CHECK(!matrix_flags(upper.data(), upper_col.data(), four.data(), 3).pattern);

  const auto b = breadth_first(ptr.data(), col.data(), 3, 0, 10);
  CHECK(b.levels == 2 && b.reached == 3 && b.last == 2);
  CHECK(breadth_first(ptr.data(), col.data(), 3, 0, 1).reached == 2);
  const std::vector<std::int64_t> shape{3, 1, 1}, offsets{-1, 0, 1}, steps{-1, 0, 0, 0, 0, 0, 1, 0, 0};
  auto fit = lattice_fit(ptr.data(), col.data(), shape.data(), offsets.data(), steps.data(), 3);
  CHECK(fit.known && fit.fits);
  fit = lattice_fit(ptr.data(), col.data(), shape.data(), offsets.data(), steps.data(), 2);
  CHECK(!fit.known && fit.missed == 1);
  const std::vector<int> round{0, 2, 3, 4}, round_col{0, 2, 1, 2};
  const std::vector<std::int64_t> far{0, 2}, turn{0, 0, 0, -1, 0, 0};
  fit = lattice_fit(round.data(), round_col.data(), shape.data(), far.data(), turn.data(), 2);
  CHECK(fit.known && !fit.fits);
  CHECK(largest_row_sum(ptr.data(), chain.data(), 3) == 4.0);
  const std::vector<int> none{0};
  CHECK(matrix_flags(none.data(), col.data(), chain.data(), 0).symmetric);
  return failures();
}
