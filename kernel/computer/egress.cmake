# The egress broker: its sources, tests and fuzz target.  Included after the library is declared.
target_sources(computer PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/egress.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_body.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_dial.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_host.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_http.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_relay.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_rules.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_socks.c
  ${CMAKE_CURRENT_LIST_DIR}/egress_tls.c)

add_unit_test(egress computer base)
add_unit_test(egress_relay computer base)
add_unit_test(egress_forward computer base)
add_unit_test(egress_curl computer base)
add_unit_test(egress_rules computer base)
add_unit_test(egress_http computer base)
add_unit_test(egress_tls computer base)
add_fuzz_target(egress computer base)
