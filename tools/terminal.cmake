# The screen's own parts, and the tests of the family terminal and of what all families share.
get_target_property(tools_sources tools SOURCES)
foreach(file screen_vt.c screen_width.c)
  if(NOT file IN_LIST tools_sources)
    target_sources(tools PRIVATE ${file})
  endif()
endforeach()

add_unit_test(toolkit tools)
add_unit_test(toolkit_output tools)
add_unit_test(screen tools)
add_unit_test(terminal_keys tools)
add_unit_test(terminal tools kernel sandbox guest_image)
add_fuzz_target(screen tools)
