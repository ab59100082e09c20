#include <cmath>
#include <random>

#include "check.hpp"
#include "torch_sla/table_sums.hpp"

using namespace torch_sla;

template <class Slot, class T>
void check(int count, std::int64_t members, int components, bool weighted, bool begun, int threads) {
  std::mt19937 random(11);
  const auto number = [&] { return static_cast<T>(random() % 1000) / T(500) - T(1); };
  const std::int64_t rows = 23, points = 40, levels = 6;
  std::vector<std::int32_t> crow{0}, ccol;
  for (std::int64_t i = 0; i < rows; ++i) {  // among them rows of nothing
    for (unsigned e = random() % 7; e > 0; --e)
      ccol.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(points * components)));
    crow.push_back(static_cast<std::int32_t>(ccol.size()));
  }
  std::vector<Slot> slots;
  std::vector<T> values, weight, start, y;
  for (std::size_t e = 0; e < ccol.size(); ++e) {
    slots.push_back(static_cast<Slot>(ccol.size() - 1 - e));
    values.push_back(number());
  }
  for (std::int64_t p = 0; p < points; ++p) weight.push_back(number());
  for (std::int64_t i = 0; i < rows; ++i) start.push_back(number());
  for (std::int64_t i = 0; i < rows * members; ++i) y.push_back(number());
  std::vector<std::vector<T>> tables(count);
  std::vector<std::vector<std::int32_t>> level(count);
  tables::Product<T> law{count, {}, {}, weighted ? weight.data() : nullptr};
  for (int k = 0; k < count; ++k) {
    for (std::int64_t i = 0; i < levels * members; ++i) tables[k].push_back(number());
    for (std::int64_t p = 0; p < points; ++p) level[k].push_back(static_cast<std::int32_t>(random() % levels));
    law.table[k] = tables[k].data();
    law.level[k] = level[k].data();
  }
  std::vector<T> expected = y;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t c = 0; c < members; ++c) {
      T& sum = expected[i * members + c];
      if (begun) sum = start[i];
      for (std::int32_t e = crow[i]; e < crow[i + 1]; ++e) {
        const std::int32_t p = ccol[e] / components;
        if (ccol[e] % components != components - 1) continue;
        T product = values[slots[e]] * (weighted ? weight[p] : T(1));
        for (int k = 0; k < count; ++k) product *= tables[k][level[k][p] * members + c];
        sum += product;
      }
    }
  tables::add_products(crow.data(), ccol.data(), slots.data(), values.data(), law, components - 1, components, rows,
                       members, begun ? start.data() : nullptr, y.data(), threads);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(y[i] - expected[i]) < (sizeof(T) == 4 ? 1e-5 : 1e-13));
}

int main() {
  for (int count : {1, 2, 3})
    for (std::int64_t members : {1, 2, 7, 33, 100})
      for (int threads : {1, 3}) {
        check<std::int32_t, double>(count, members, 1, false, true, threads);
        check<std::int64_t, double>(count, members, 2, true, false, threads);
        check<std::int32_t, float>(count, members, 3, true, true, threads);
      }
  return failures();
}
