// One pass over a CSR matrix: symmetry, mirror images, dominance, breadth-first search.
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "check.hpp"
#include "torch_sla/pattern.hpp"
#include "torch_sla/structure.hpp"

using namespace torch_sla;

// Rows that are alike, as on a lattice: one entry after the other is changed, and found.
void lattice() {
  const int n0 = 7, n1 = 9, n = n0 * n1;
  std::vector<int> ptr{0}, col;
  std::vector<double> val;
  for (int i = 0; i < n; ++i) {
    const int x = i % n0, y = i / n0;
    const auto add = [&](int j, double v) {
      col.push_back(j);
      val.push_back(v);
    };
    if (y > 0) add(i - n0, -1.0 / (i + i - n0));
    if (x > 0) add(i - 1, -1.0 / (i + i - 1));
    add(i, 4.5);
    if (x + 1 < n0) add(i + 1, -1.0 / (i + i + 1));
    if (y + 1 < n1) add(i + n0, -1.0 / (i + i + n0));
    ptr.push_back(static_cast<int>(col.size()));
  }
  for (const int threads : {1, 3}) {
    const auto flags = [&](const std::vector<double>& v) { return matrix_flags(ptr.data(), col.data(), v.data(), n, threads); };
    const auto whole = flags(val);
    CHECK(whole.pattern && whole.symmetric && whole.hermitian && whole.positive && whole.dominant && !whole.rounded);
    for (int i = 0; i < n; ++i)
      for (int s = ptr[i]; s < ptr[i + 1]; ++s) {
        auto other = val;
        other[s] *= 1 + 1e-15;
        CHECK(flags(other).symmetric && !flags(other).rounded);
        other[s] = val[s] + (val[s] < 0 ? -5e-15 : 5e-15);  // rounding of a diagonal entry
        CHECK(flags(other).symmetric && flags(other).rounded == (col[s] != i));
        other[s] = val[s] * (1 + 1e-6);
        CHECK(flags(other).symmetric == (col[s] == i));
        other[s] = std::numeric_limits<double>::quiet_NaN();
        CHECK(!flags(other).symmetric);
        other[s] = -4.0;
        const auto f = flags(other);
        CHECK(f.pattern && f.symmetric == (col[s] == i) && f.positive == (col[s] != i) && !f.dominant);
        if (col[s] == i) continue;
        auto fewer = col;
        auto less = val;
        auto start = ptr;
        fewer.erase(fewer.begin() + s);
        less.erase(less.begin() + s);
        for (int k = i + 1; k <= n; ++k) --start[k];
        CHECK(!matrix_flags(start.data(), fewer.data(), less.data(), n, threads).pattern);
      }
  }
}

int main() {
  lattice();
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
  for (int threads = 1; threads <= 3; ++threads) {
    CHECK(!descends(ptr.data(), col.data(), chain.data(), 3, 6, 1e-5, threads));
    const std::vector<double> wave{1, -1, -1, 1, -1, -1, 1};  // eigenvalues 1, 1 +- sqrt(2)
    CHECK(descends(ptr.data(), col.data(), wave.data(), 3, 6, 1e-5, threads));
    const std::vector<double> turned{1, 1, 1, 1, 1, 1, 1};  // the same, of another vector than ones
    CHECK(!descends(ptr.data(), col.data(), turned.data(), 3, 0, 1e-5, threads));
  }
  auto holed = chain;
  holed[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(largest_row_sum(ptr.data(), holed.data(), 3)));
  const std::vector<int> some{0, -1, 1, 3};
  const std::vector<double> sizes{-2, 0, 100, 5};
  CHECK((size_range(sizes.data(), some.data(), 4) == std::array<double, 2>{2, 5}));
  CHECK((size_range(sizes.data() + 1, some.data(), 1) == std::array<double, 2>{0, 0}));
  CHECK(std::isnan(size_range(holed.data(), some.data(), 4)[0]));
  const std::vector<int> none{0};
  CHECK(matrix_flags(none.data(), col.data(), chain.data(), 0).symmetric);
  return failures();
}
