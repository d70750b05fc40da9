// The reading calls of an index as Python makes them.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>

#include "hnsw/index.h"

namespace embedcore::bindings {

namespace py = pybind11;
using Floats = py::array_t<float, py::array::c_style>;
using Ids = py::array_t<std::int64_t, py::array::c_style>;
using Counts = py::array_t<std::uint64_t, py::array::c_style>;

// The call that most calls are, in one step: queries float32, C-contiguous, (dim,) or (n, dim), the other
// arguments plain ints in range. Returns new arrays (ids, distances) of shape (k,) or (n, k); None for any
// other form, which the Python layer brings into shape or refuses by name. Raises for values that are not
// finite and, under cosine, zero.
py::object search_plain(const hnsw::Index& index, py::handle queries, py::handle k, py::handle ef,
                        py::handle threads);

// queries (n, dim) into ids and distances (n, k). stats: (3, n), hops, distances and nanoseconds.
void search(const hnsw::Index& index, const Floats& queries, std::size_t k, std::size_t ef,
            const py::object& filter, unsigned threads, Ids& ids, Floats& distances,
            std::optional<Counts> stats);

// Two (n, widest) arrays, padded with -1 and infinity.
py::tuple range_search(const hnsw::Index& index, const Floats& queries, float radius, std::size_t ef,
                       const py::object& filter, unsigned threads);

Floats scores(const hnsw::Index& index, const Floats& query, const Ids& ids);

} // namespace embedcore::bindings
