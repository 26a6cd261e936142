#include "devices/virtio/net_header.h"

#include <catch2/catch.hpp>

using namespace minivm::virtio;

TEST_CASE("a header is judged against what was negotiated (rules 14 and 32)") {
  constexpr std::uint64_t features = net::feature_csum | net::feature_host_tso4 | net::feature_host_ecn;
  const net::Header csum{.flags = net::header_needs_csum, .csum_start = 34, .csum_offset = 16};
  const net::Header tso{.flags = net::header_needs_csum,
                        .gso_type = net::gso_tcpv4,
                        .hdr_len = 54,
                        .gso_size = 1448,
                        .csum_start = 34,
                        .csum_offset = 16};
  CHECK(judge_header({}, 14, 0));
  CHECK_FALSE(judge_header({}, 13, 0));
  CHECK(judge_header({}, net::max_frame_size, 0));
  CHECK_FALSE(judge_header({}, net::max_frame_size + 1, 0));

  CHECK(judge_header(csum, 52, features)->csum_start == 34);
  CHECK_FALSE(judge_header(csum, 51, features));
  CHECK_FALSE(judge_header(csum, 100, 0));
  CHECK_FALSE(judge_header({.flags = 1, .csum_start = 0xFFFF, .csum_offset = 0xFFFF}, 1000, features));

  CHECK(judge_header(tso, 4000, features)->gso_size == 1448);
  CHECK_FALSE(judge_header(tso, 4000, net::feature_csum));
  auto changed = [&](auto change) {
    net::Header header = tso;
    change(header);
    return judge_header(header, 4000, features);
  };
  CHECK_FALSE(changed([](auto& header) { header.flags = 0; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_size = 0; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = net::gso_tcpv6; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = net::gso_udp_l4; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = 3; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = 0x7F; }));
  CHECK(changed([](auto& header) { header.gso_type |= net::gso_ecn; }));
  CHECK(changed([](auto& header) { header.hdr_len = 0xFFFF; })->hdr_len == 4000);
}

TEST_CASE("what only the device may say is cleared (rule 32)") {
  const auto judged = judge_header({.flags = 0xFE,
                                    .gso_type = net::gso_ecn,
                                    .hdr_len = 9,
                                    .gso_size = 9,
                                    .csum_start = 9,
                                    .csum_offset = 9,
                                    .num_buffers = 9},
                                   100, ~0ULL);
  REQUIRE(judged);
  CHECK(judged->flags == 0);
  CHECK(judged->gso_type == 0);
  CHECK(judged->hdr_len == 0);
  CHECK(judged->gso_size == 0);
  CHECK(judged->csum_start == 0);
  CHECK(judged->num_buffers == 0);
}
