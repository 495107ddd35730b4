# The drivers of code_run are files of tools/drivers, made part of the program as they are.
enable_language(ASM)
file(GLOB code_drivers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/drivers/*)
set_source_files_properties(code_drivers.S PROPERTIES
  OBJECT_DEPENDS "${code_drivers}"
  COMPILE_OPTIONS "-Wa,-I${CMAKE_CURRENT_SOURCE_DIR}/drivers")
target_sources(tools PRIVATE code_drivers.S)

add_unit_test(code_context tools)
add_unit_test(code_drivers tools)
add_unit_test(code_frame tools)
add_fuzz_target(code_frame tools)
add_unit_test(code tools kernel sandbox guest_image)
add_unit_test(code_wait tools kernel sandbox guest_image)
