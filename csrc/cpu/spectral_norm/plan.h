// How the CPU cuts the spectral norm of a list of weights.
//
// Every matrix is cut into blocks of rows of about kBlock elements, the same ones whatever the number of threads. The
// threads share the blocks of a group of layers by size. A group is small enough for its second reading to find it in
// the cache that the cores share.
#pragma once

#include <algorithm>
#include <vector>

#include "common/spectral_norm_arguments.h"
#include "cpu/parallel.h"

namespace fastgan::spectral {

constexpr int64_t kBlock = 64 * 1024;  // elements of W: 256 KiB of fp32, which stay in a core's L2 between two reads
constexpr int64_t kGroup =
    2048 * 1024;  // elements of W in a group of layers: fewer hand-overs to the threads, 8 MiB of fp32
constexpr int64_t kPastCaches = 1024 * 1024;  // elements of W from which on outputs are written past the caches
constexpr int64_t kWorthAThread = 32 * 1024;

struct Layer {
  int64_t rows, cols;
  int64_t first_block, blocks;
};
struct Block {
  int64_t layer, row, rows;
};
struct Group {
  int64_t first_layer, last_layer, first_block, last_block;
};
struct Plan {
  std::vector<Layer> layers;
  std::vector<Block> blocks;
  std::vector<Group> groups;
  std::vector<int64_t> block_costs, layer_costs;
  bool past_caches;

  template <class Body>
  void for_blocks(const Group& group, const Body& body) const {
    parallel_by_cost(block_costs, group.first_block, group.last_block, kWorthAThread, body);
  }
  template <class Body>
  void for_layers(const Group& group, const Body& body) const {
    parallel_by_cost(layer_costs, group.first_layer, group.last_layer, kWorthAThread, body);
  }
};

inline Plan plan_blocks(const List& weights) {
  Plan plan;
  int64_t total = 0, in_group = kGroup;
  for (size_t l = 0; l < weights.size(); l++) {
    const Tensor& w = weights[l];
    const int64_t rows = w.size(0), cols = w.numel() / rows, step = std::max<int64_t>(4, kBlock / cols);
    Layer layer{rows, cols, int64_t(plan.blocks.size()), 0};
    if (in_group + rows * cols > kGroup) {
      plan.groups.push_back({int64_t(l), 0, layer.first_block, 0});
      in_group = 0;
    }
    for (int64_t r = 0; r < rows; r += step, layer.blocks++) {
      plan.blocks.push_back({int64_t(l), r, std::min(step, rows - r)});
      plan.block_costs.push_back(plan.blocks.back().rows * cols);
    }
    plan.layers.push_back(layer);
    plan.layer_costs.push_back(rows + cols * (layer.blocks + 1));
    plan.groups.back().last_layer = l + 1;
    plan.groups.back().last_block = plan.blocks.size();
    in_group += rows * cols;
    total += rows * cols;
  }
  plan.past_caches = total >= kPastCaches;
  return plan;
}

}  // namespace fastgan::spectral
