// CPU seconds that the searches of a file take on a saved index, single thread, best of five passes. Built
// twice: with links as they are, and with EMBEDCORE_PLAIN_LINKS, where walks read them as plain words.
//
// Arguments: index queries.f32 ef
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "hnsw/index.h"

using namespace embedcore; // NOLINT

namespace {

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto loaded = hnsw::Index::load(argv[1]);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
    return 1;
  }
  const auto index = loaded.value();
  std::ifstream file(argv[2], std::ios::binary | std::ios::ate);
  std::vector<float> queries(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(queries.data()),
            static_cast<std::streamsize>(queries.size() * sizeof(float)));
  const std::size_t ef = std::strtoul(argv[3], nullptr, 10);
  const std::size_t dim = index->config().dim;
  std::int64_t ids[10];
  float distances[10];
  double best = 1e9;
  for (int pass = 0; pass < 5; ++pass) {
    const double start = cpu_seconds();
    for (std::size_t at = 0; at < queries.size(); at += dim)
      index->search(&queries[at], 10, ef, nullptr, ids, distances);
    best = std::min(best, cpu_seconds() - start);
  }
  std::printf("%.6f\n", best);
}
