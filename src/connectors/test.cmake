# The live tests run on the stand-in Odoo as on real ones, in this process.
target_link_libraries(connectors_test PRIVATE sandbox_odoo_lib)
