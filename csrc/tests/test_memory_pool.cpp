#include <thread>

#include "check.hpp"
#include "torch_sla/cholesky_memory.hpp"
#include "torch_sla/multigrid/matrix.hpp"

using namespace torch_sla;

int main() {
  MemoryPool& pool = MemoryPool::shared();
  constexpr std::int64_t large = std::int64_t{1} << 21;  // doubles: 16 MiB

  // Nothing is kept unasked.
  { const Buffer<double> one(large); }
  CHECK(pool.kept() == 0);

  // A block comes back to who needs as much, or up to an eighth less, and to nobody else.
  pool.set_limit(std::size_t{64} << 20);
  const double* before = nullptr;
  {
    const Buffer<double> one(large);
    before = one.data();
    one.data()[7] = 1;
    const Buffer<double> part(one, 7, 1);
    CHECK(part.data()[0] == 1);
  }
#if defined(__SANITIZE_ADDRESS__)
  CHECK(__asan_address_is_poisoned(before));  // who still reads it is found out
#endif
  CHECK(pool.kept() == 8 * large);
  {
    const Buffer<double> longer(large + 1), much_shorter(large / 2);
    CHECK(longer.data() != before && much_shorter.data() != before && pool.kept() == 8 * large);
    const Buffer<float> shorter(2 * large - large / 8);
    CHECK(static_cast<const void*>(shorter.data()) == before && pool.kept() == 0);
  }
  { const Buffer<double> small(1000); }  // left to the allocator

  // The oldest go where the bound is passed, and all on demand.
  pool.trim(0);
  pool.set_limit(std::size_t{40} << 20);
  {
    const Buffer<double> one(large), two(large), three(large), four(large);
    CHECK(pool.kept() <= std::size_t{40} << 20);
  }
  CHECK(pool.kept() == 16 * large);
  pool.trim(0);
  CHECK(pool.kept() == 0);

  // Levels of multigrid take blocks of their own size alone: whole pages of it.
  pool.set_limit(std::size_t{64} << 20);
  const float* level = nullptr;
  {
    const multigrid::Buffer<float> values(std::size_t{3} << 20);
    level = values.data();
  }
  CHECK(pool.kept() == std::size_t{12} << 20);
  {
    const multigrid::Buffer<float> less(std::size_t{10} << 18), same((std::size_t{3} << 20) - 5);
    CHECK(less.data() != level && same.data() == level && pool.kept() == 0);
  }
  { const multigrid::Buffer<float> none, few(3); }
  pool.trim(0);
  pool.set_limit(std::size_t{40} << 20);

  // From several threads.
  std::vector<std::thread> team;
  for (int k = 0; k < 4; ++k)
    team.emplace_back([k] {
      for (int turn = 0; turn < 50; ++turn) {
        const Buffer<double> mine(large);
        mine.data()[k] = k;
        CHECK(mine.data()[k] == k);
      }
    });
  for (auto& thread : team) thread.join();
  CHECK(pool.kept() <= std::size_t{40} << 20);
  return failures();
}
