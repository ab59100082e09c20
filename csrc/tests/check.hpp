// The least a test needs: CHECK(condition) reports a failure with its place and goes on;
// `return failures()` ends main.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

inline int& failures() {
  static int count = 0;
  return count;
}

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
      ++failures();                                                             \
    }                                                                           \
  } while (false)

// A matrix as coordinates with repetitions, as CSR, and as dense numbers.
struct RandomMatrix {
  std::int64_t rows, columns;
  std::vector<int> row, col;

  RandomMatrix(std::int64_t m, std::int64_t n, std::int64_t entries, unsigned seed)
      : rows(m), columns(n) {
    std::mt19937 random(seed);
    for (std::int64_t e = 0; e < entries; ++e) {
      row.push_back(static_cast<int>(random() % static_cast<unsigned>(m)));
      col.push_back(static_cast<int>(random() % static_cast<unsigned>(n)));
    }
  }
};
