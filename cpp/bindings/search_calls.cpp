// One query goes straight to Index::search. More go in chunks to search_many, on as many threads as pay;
// between chunks the calling thread asks whether to go on.
//
// Health is asked after the search: an answer from damaged vectors is not returned once the damage is known.
#include "bindings/search_calls.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "bindings/index_calls.h"
#include "bindings/registers.h"
#include "hnsw/validate.h"

namespace embedcore::bindings {

namespace {

constexpr std::size_t most_queries = 64; // of a chunk
constexpr float infinity = std::numeric_limits<float>::infinity();

// Wide searches take long, so fewer of them go between two questions about Ctrl-C.
std::size_t chunk_limit(std::size_t k, std::size_t ef) {
  return std::clamp<std::size_t>(most_queries * 256 / std::max({k, ef, std::size_t{1}}), 1, most_queries);
}

struct Wanted {
  const float* queries;
  std::size_t n, k, ef;
  const hnsw::IdFilter* filter;
  std::int64_t* ids;
  float* distances;
  std::uint64_t* stats; // null, or (3, n)
};

void search_chunk(const hnsw::Index& index, const Wanted& wanted, std::size_t first, std::size_t count) {
  std::array<hnsw::SearchStats, most_queries> stats{};
  index.search_many(wanted.queries + first * index.config().dim, count, wanted.k, wanted.ef, wanted.filter,
                    wanted.ids + first * wanted.k, wanted.distances + first * wanted.k,
                    wanted.stats == nullptr ? nullptr : stats.data());
  if (wanted.stats == nullptr) return;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t* at = wanted.stats + first + i;
    at[0] = stats[i].hops;
    at[wanted.n] = stats[i].distances;
    at[2 * wanted.n] = stats[i].nanoseconds;
  }
}

// The same for one query without stats, which most calls are.
void search_one(const hnsw::Index& index, const Wanted& wanted) {
  const std::size_t found =
      index.search(wanted.queries, wanted.k, wanted.ef, wanted.filter, wanted.ids, wanted.distances);
  std::fill(wanted.ids + found, wanted.ids + wanted.k, -1);
  std::fill(wanted.distances + found, wanted.distances + wanted.k, infinity);
}

Status check_queries(const hnsw::Index& index, const float* queries, std::size_t n) {
  return hnsw::check_vectors(index.config(), queries, n, "query");
}

// An uninitialised array (k,) or (n, k). As py::array_t makes it, without the vectors of shape and strides.
template <class T>
py::array_t<T, py::array::c_style> new_array(bool single, std::size_t n, std::size_t k) {
  const std::array<Py_intptr_t, 2> shape{static_cast<Py_intptr_t>(n), static_cast<Py_intptr_t>(k)};
  const auto& numpy = py::detail::npy_api::get();
  PyObject* made =
      numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, py::dtype::of<T>().release().ptr(), single ? 1 : 2,
                                  shape.data() + (single ? 1 : 0), nullptr, nullptr, 0, nullptr);
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array_t<T, py::array::c_style>>(made);
}

// A plain int of low to 2^32 - 1; nothing for anything else.
std::optional<std::size_t> plain_int(py::handle object, long long low) {
  if (!PyLong_CheckExact(object.ptr())) return {};
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
  if (overflow != 0 || value < low || value > std::numeric_limits<std::uint32_t>::max()) return {};
  return static_cast<std::size_t>(value);
}

} // namespace

py::object search_plain(const hnsw::Index& index, py::handle queries, py::handle k, py::handle ef,
                        py::handle threads) {
  if (!Floats::check_(queries)) return py::none();
  const auto array = py::reinterpret_borrow<Floats>(queries);
  const bool single = array.ndim() == 1;
  const bool fits = (single || array.ndim() == 2) && array.shape(array.ndim() - 1) == index.config().dim &&
                    (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  const auto count = plain_int(k, 1);
  const auto breadth = plain_int(ef, 1);
  const auto most = plain_int(threads, 0);
  if (!fits || !count || !breadth || !most || *most > 65535) return py::none();

  const auto n = single ? std::size_t{1} : static_cast<std::size_t>(array.shape(0));
  auto ids = new_array<std::int64_t>(single, n, *count);
  auto distances = new_array<float>(single, n, *count);
  const Wanted wanted{
      array.data(), n, *count, *breadth, nullptr, ids.mutable_data(), distances.mutable_data(), nullptr};
  Status status;
  if (n == 1) {
    const py::gil_scoped_release release;
    status = check_queries(index, wanted.queries, 1);
    if (status.ok()) search_one(index, wanted);
    if (status.ok()) status = index.health();
  } else {
    {
      const py::gil_scoped_release release;
      status = check_queries(index, wanted.queries, n);
    }
    if (status.ok()) {
      for_each_chunk(n, chunk_limit(wanted.k, wanted.ef), static_cast<unsigned>(*most), FilterArgument{},
                     [&](std::size_t first, std::size_t size) { search_chunk(index, wanted, first, size); });
      status = index.health();
    }
  }
  raise_if_error(status);
  return py::make_tuple(std::move(ids), std::move(distances));
}

void search(const hnsw::Index& index, const Floats& queries, std::size_t k, std::size_t ef,
            const py::object& filter_object, unsigned threads, Ids& ids, Floats& distances,
            std::optional<Counts> stats) {
  const FilterArgument filter(filter_object);
  const Wanted wanted{queries.data(),
                      static_cast<std::size_t>(queries.shape(0)),
                      k,
                      ef,
                      filter.filter,
                      ids.mutable_data(),
                      distances.mutable_data(),
                      stats ? stats->mutable_data() : nullptr};
  Status status;
  {
    const py::gil_scoped_release release;
    status = check_queries(index, wanted.queries, wanted.n);
  }
  raise_if_error(status);
  if (filter.empty) {
    std::fill_n(wanted.ids, wanted.n * k, -1);
    std::fill_n(wanted.distances, wanted.n * k, infinity);
    return;
  }
  const std::size_t limit = filter.callable ? 1 : chunk_limit(k, ef);
  for_each_chunk(wanted.n, limit, threads, filter,
                 [&](std::size_t first, std::size_t size) { search_chunk(index, wanted, first, size); });
  raise_if_error(index.health());
}

py::tuple range_search(const hnsw::Index& index, const Floats& queries, float radius, std::size_t ef,
                       const py::object& filter_object, unsigned threads) {
  const FilterArgument filter(filter_object);
  const auto n = static_cast<std::size_t>(queries.shape(0));
  const float* query = queries.data();
  Status status;
  {
    const py::gil_scoped_release release;
    status = check_queries(index, query, n);
  }
  raise_if_error(status);
  std::vector<std::vector<std::int64_t>> ids(n);
  std::vector<std::vector<float>> distances(n);
  for_each_chunk(n, 1, threads, filter, [&](std::size_t i, std::size_t) {
    if (filter.empty) return;
    index.range_search(query + i * index.config().dim, radius, ef, filter.filter, ids[i], distances[i]);
  });
  raise_if_error(index.health());
  std::size_t widest = 0;
  for (const auto& row : ids) widest = std::max(widest, row.size());
  Ids all_ids({n, widest});
  Floats all_distances({n, widest});
  for (std::size_t i = 0; i < n; ++i) {
    std::int64_t* id = all_ids.mutable_data() + i * widest;
    float* distance = all_distances.mutable_data() + i * widest;
    std::copy(ids[i].begin(), ids[i].end(), id);
    std::copy(distances[i].begin(), distances[i].end(), distance);
    std::fill(id + ids[i].size(), id + widest, -1);
    std::fill(distance + ids[i].size(), distance + widest, infinity);
  }
  return py::make_tuple(std::move(all_ids), std::move(all_distances));
}

Floats scores(const hnsw::Index& index, const Floats& query, const Ids& ids) {
  Floats distances(ids.size());
  float* out = distances.mutable_data();
  Status status;
  {
    const py::gil_scoped_release release;
    status = check_queries(index, query.data(), 1);
    if (status.ok()) index.scores(query.data(), {ids.data(), static_cast<std::size_t>(ids.size())}, out);
    if (status.ok()) status = index.health();
  }
  raise_if_error(status);
  return distances;
}

} // namespace embedcore::bindings
