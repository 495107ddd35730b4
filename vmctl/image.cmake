# Images: the store, and building them.
aios_module(image
  SOURCES image.c image_build.c image_program.c image_recipe.c image_tree.c
  PUBLIC computer)
target_compile_definitions(image PRIVATE AIOS_RECIPES="${CMAKE_SOURCE_DIR}/images")
install(DIRECTORY ${CMAKE_SOURCE_DIR}/images/base DESTINATION share/aios/images)

add_unit_test(image image)

# The base image, built and booted: minutes, and nothing in it depends on how the program was built.
if(BUILD_TESTING AND NOT AIOS_SANITIZE)
  add_executable(test_machine_image ${CMAKE_SOURCE_DIR}/tests/integration/machine/test_image.c)
  target_link_libraries(test_machine_image PRIVATE image vmctl guest_image early_image test_support
    PkgConfig::CMOCKA aios_flags)
  set_target_properties(test_machine_image PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME vm.image COMMAND test_machine_image)
  set_tests_properties(vm.image PROPERTIES LABELS "integration;vm" TIMEOUT 1800
    SKIP_RETURN_CODE 77)
endif()
