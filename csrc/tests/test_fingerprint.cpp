#include <set>
#include <utility>

#include "check.hpp"
#include "torch_sla/fingerprint.hpp"

using namespace torch_sla;

int main() {
  const auto of = [](const std::vector<unsigned char>& bytes, int threads = 1) {
    const Digest digest =
        fingerprint(bytes.data(), static_cast<std::int64_t>(bytes.size()), threads);
    return std::make_pair(digest.low, digest.high);
  };
  std::mt19937 random(2029);
  std::vector<unsigned char> bytes((1 << 19) + 77);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());

  // The same bytes give the same digest at any address and for any number of threads.
  const auto base = of(bytes);
  for (int threads : {2, 3, 9}) CHECK(of(bytes, threads) == base);
  std::vector<unsigned char> moved(bytes.size() + 3);
  std::copy(bytes.begin(), bytes.end(), moved.begin() + 3);
  const Digest elsewhere =
      fingerprint(moved.data() + 3, static_cast<std::int64_t>(bytes.size()), 1);
  CHECK(std::make_pair(elsewhere.low, elsewhere.high) == base);

  // Single bits, lengths and swapped words all show, in both halves.
  std::set<std::uint64_t> low{base.first}, high{base.second};
  std::size_t count = 1;
  const auto add = [&](const std::vector<unsigned char>& changed) {
    const auto digest = of(changed);
    low.insert(digest.first);
    high.insert(digest.second);
    ++count;
  };
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 10007) {
    bytes[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
    add(bytes);
    bytes[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
  }
  for (std::size_t length = 0; length < 200; ++length) add(std::vector<unsigned char>(length, 0));
  for (std::size_t word : {8, 64, 4096, 1 << 18}) {
    auto swapped = bytes;
    std::swap_ranges(swapped.begin(), swapped.begin() + 8,
                     swapped.begin() + static_cast<std::ptrdiff_t>(word));
    add(swapped);
  }
  CHECK(low.size() == count && high.size() == count);
  return failures();
}
