#include <set>
#include <utility>

#include "check.hpp"
#include "torch_sla/csr.hpp"

using namespace torch_sla;

template <class Index>
void check(std::int64_t m, std::int64_t n, std::int64_t entries, int threads) {
  const RandomMatrix given(m, n, entries, 977);
  const std::vector<Index> row(given.row.begin(), given.row.end());
  const std::vector<Index> col(given.col.begin(), given.col.end());
  std::set<std::pair<Index, Index>> expected;
  for (std::int64_t e = 0; e < entries; ++e) expected.emplace(row[e], col[e]);

  std::vector<Index> crow(m + 1), ccol(entries), slot(entries);
  const std::int64_t slots = coo_to_csr(row.data(), col.data(), entries, m, n, crow.data(),
                                        ccol.data(), slot.data(), threads);
  CHECK(slots == static_cast<std::int64_t>(expected.size()) && crow[m] == slots);
  std::vector<Index> rows(slots);
  expand_rows(crow.data(), m, rows.data(), threads);
  std::int64_t at = 0;
  for (const auto& [i, j] : expected) {
    CHECK(rows[at] == i && ccol[at] == j);
    ++at;
  }
  for (std::int64_t e = 0; e < entries; ++e)
    CHECK(rows[slot[e]] == row[e] && ccol[slot[e]] == col[e]);
  CHECK(sorted_unique(rows.data(), ccol.data(), slots));
  CHECK(entries < 2 || !sorted_unique(row.data(), col.data(), entries));

  std::vector<Index> crow_t(n + 1), ccol_t(slots), perm(slots), back(m + 1), columns(slots),
      again(slots);
  transpose_csr(crow.data(), ccol.data(), m, n, crow_t.data(), ccol_t.data(), perm.data(), threads);
  transpose_csr(crow_t.data(), ccol_t.data(), n, m, back.data(), columns.data(), again.data(),
                threads);
  CHECK(back == crow);
  for (std::int64_t e = 0; e < slots; ++e) CHECK(columns[e] == ccol[e] && perm[again[e]] == e);

  const std::int64_t diagonal = m < n ? m : n;
  std::vector<Index> found(diagonal);
  diagonal_slots(crow.data(), ccol.data(), diagonal, found.data(), threads);
  for (std::int64_t i = 0; i < diagonal; ++i) {
    const bool stored = expected.count({static_cast<Index>(i), static_cast<Index>(i)}) != 0;
    CHECK(stored ? rows[found[i]] == i && ccol[found[i]] == i : found[i] == -1);
  }
}

int main() {
  for (int threads : {1, 2, 5}) {
    check<std::int32_t>(1, 1, 0, threads);
    check<std::int32_t>(1, 1, 3, threads);
    check<std::int32_t>(13, 7, 60, threads);
    check<std::int64_t>(4, 50, 30, threads);
    check<std::int64_t>(50, 3, 400, threads);
  }
  return failures();
}
