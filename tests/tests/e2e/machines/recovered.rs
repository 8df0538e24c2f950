//! A state that is lost while its cluster lives on: rebuilt from the marks on machines, on them and in the cluster.

use super::World;

impl World {
    /// The state goes, nothing is made beside what is there, and the recovery knows all of it again.
    #[track_caller]
    pub(super) fn state_is_lost_and_recovered(&self, workers: usize) {
        let (lineage, nodes) = (self.project.lineage(), self.nodes(workers));
        let recorded = self.project.run(&["state", "list"]).code(0).out;
        let uids = || nodes.iter().map(|node| self.uid(node)).collect::<Vec<_>>();
        let ids = || nodes.iter().map(|node| self.engine.inspect(node)["Id"].clone()).collect::<Vec<_>>();
        let before = (uids(), ids());
        std::fs::remove_dir_all(self.project.path().join(".ksail")).expect("the state");
        self.project.run(&["plan"]).code(3).says("ksail state recover").says("0 to add, 0 to change, 0 to destroy");
        self.project.run(&["apply", "--auto-approve"]).code(3);

        self.project.run(&["state", "recover", "--auto-approve"]).code(0);
        assert_eq!(self.project.lineage(), lineage);
        assert_eq!(self.project.run(&["state", "list"]).code(0).out, recorded);
        self.project.apply();
        self.project.is_settled();
        assert_eq!((uids(), ids()), before, "nothing was made anew");
        // What comes next is one worker more, as before.
        self.workers(workers + 1);
        self.project.run(&["plan"]).code(0).says("4 to add, 0 to change, 0 to destroy");
        self.workers(workers);
    }
}
