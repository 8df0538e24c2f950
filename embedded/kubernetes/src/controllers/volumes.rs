//! Claims of volumes: bound to a volume of their class, which is made for them.

use serde_json::{Value, json};

use super::{Again, Controllers, is_deleted};
use crate::api::Api;
use crate::settings::StageKind;
use crate::status::Status;
use crate::write::Place;

const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The provisioner of a class whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// Set on a claim that a provisioner is asked to fill.
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];

impl Controllers {
    pub(crate) fn claim(&mut self, namespace: &str, name: &str, claim: &Value) -> Result<Again, Status> {
        let place = self.place("/persistentvolumeclaims", namespace, name)?;
        let protected =
            claim["metadata"]["finalizers"].as_array().into_iter().flatten().any(|finalizer| finalizer == PROTECTION);
        if is_deleted(claim) {
            if protected {
                self.api.remove_finalizer(&place, PROTECTION)?;
            }
            if let Some(volume) = claim["spec"]["volumeName"].as_str() {
                self.release(volume)?;
            }
            return Ok(None);
        }
        if !protected {
            self.api.edit(&place, "", super::MANAGER, &mut |object| {
                let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                list.push(PROTECTION.into());
                object["metadata"]["finalizers"] = json!(list);
            })?;
        }
        self.ask_provisioner(&place, claim)?;
        let key = ("/persistentvolumeclaims".into(), (namespace.into(), name.into()));
        if let Some(again) = self.stage(StageKind::PersistentVolumeClaim, &key, claim)? {
            return Ok(again);
        }
        if claim["status"]["phase"] == "Bound" {
            return Ok(None);
        }
        let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
        let uid = claim["metadata"]["uid"].as_str().unwrap_or_default();
        let reference = json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid,
        });
        let volume = match claim["spec"]["volumeName"].as_str() {
            Some(volume) => volume.to_owned(),
            None => match self.suitable(claim, class) {
                Some(volume) => volume,
                None => {
                    let Some(found) = self.api.object("storage.k8s.io/storageclasses", "", class) else {
                        return Ok(None);
                    };
                    if found["provisioner"] == NO_PROVISIONER {
                        return Ok(None);
                    }
                    let volume = format!("pvc-{uid}");
                    let made = json!({
                        "metadata": {"name": volume, "annotations": {"pv.kubernetes.io/provisioned-by": found["provisioner"]}},
                        "spec": {
                            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                            "accessModes": claim["spec"]["accessModes"], "storageClassName": class, "claimRef": reference,
                            "volumeMode": claim["spec"]["volumeMode"], "persistentVolumeReclaimPolicy": found["reclaimPolicy"],
                            "hostPath": {"path": format!("/var/lib/ksail/{volume}"), "type": "DirectoryOrCreate"},
                        },
                    });
                    self.make("/persistentvolumes", "", made)?;
                    volume
                }
            },
        };
        let at = self.place("/persistentvolumes", "", &volume)?;
        let bound =
            self.api.edit(&at, "", super::MANAGER, &mut |object| object["spec"]["claimRef"] = reference.clone());
        let bound = match bound {
            Err(status) if status.code == 404 => return Ok(None),
            bound => bound?,
        };
        self.api.set_status(&at, super::MANAGER, &json!({"phase": "Bound"}))?;
        self.api.edit(&place, "", super::MANAGER, &mut |object| {
            object["spec"]["volumeName"] = volume.as_str().into();
            object["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "yes".into();
        })?;
        let status = json!({"phase": "Bound", "accessModes": bound["spec"]["accessModes"], "capacity": bound["spec"]["capacity"]});
        self.api.set_status(&place, super::MANAGER, &status)?;
        Ok(None)
    }

    /// Says on a claim who is to make its volume, so that one that waits for it knows.
    fn ask_provisioner(&mut self, place: &Place, claim: &Value) -> Result<(), Status> {
        let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
        let found = self.api.object("storage.k8s.io/storageclasses", "", class).unwrap_or_default();
        let Some(provisioner) = found["provisioner"].as_str().filter(|name| *name != NO_PROVISIONER) else {
            return Ok(());
        };
        let is_asked = PROVISIONER.iter().any(|key| claim["metadata"]["annotations"][*key].is_string());
        if is_asked || claim["status"]["phase"] == "Bound" || claim["spec"]["volumeName"].is_string() {
            return Ok(());
        }
        let ask = &mut |object: &mut Value| {
            for key in PROVISIONER {
                object["metadata"]["annotations"][key] = provisioner.into();
            }
        };
        self.api.edit(place, "", super::MANAGER, ask).map(|_| ())
    }

    /// A volume that is there and free for a claim.
    fn suitable(&self, claim: &Value, class: &str) -> Option<String> {
        let (_, volumes) = self.api.store.list("/persistentvolumes", None);
        volumes.into_iter().find_map(|((_, name), entry)| {
            let volume = entry.object();
            let amount = |value: &Value| {
                value.as_str().and_then(crate::quantity::Quantity::parse).map(crate::quantity::Quantity::nanos)
            };
            let modes = claim["spec"]["accessModes"].as_array()?;
            let offered = volume["spec"]["accessModes"].as_array()?;
            let fits = volume["spec"]["claimRef"].is_null()
                && volume["spec"]["storageClassName"].as_str().unwrap_or_default() == class
                && modes.iter().all(|mode| offered.contains(mode))
                && amount(&volume["spec"]["capacity"]["storage"])
                    >= amount(&claim["spec"]["resources"]["requests"]["storage"]);
            fits.then(|| name.to_string())
        })
    }

    /// What becomes of the volume of a claim that goes.
    fn release(&mut self, name: &str) -> Result<(), Status> {
        let Some(volume) = self.api.object("/persistentvolumes", "", name) else { return Ok(()) };
        if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete" {
            self.remove("/persistentvolumes", "", name)?;
            return self.unprotect(name);
        }
        let place = self.place("/persistentvolumes", "", name)?;
        self.api.set_status(&place, super::MANAGER, &json!({"phase": "Released"}))
    }

    pub(crate) fn volume(&mut self, name: &str, volume: &Value) -> Result<Again, Status> {
        let bound = volume["status"]["phase"] == "Bound";
        if is_deleted(volume) && !bound {
            self.unprotect(name)?;
        } else if volume["status"]["phase"] == "Pending" && !is_deleted(volume) {
            let place = self.place("/persistentvolumes", "", name)?;
            self.api
                .edit(&place, "status", super::MANAGER, &mut |object| object["status"]["phase"] = "Available".into())?;
        }
        Ok(None)
    }

    fn unprotect(&mut self, name: &str) -> Result<(), Status> {
        let place = self.place("/persistentvolumes", "", name)?;
        match self.api.remove_finalizer(&place, "kubernetes.io/pv-protection") {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}

/// Why a pod waits for a claim of a volume.
pub(crate) fn unbound(api: &Api, namespace: &str, pod: &Value) -> Option<String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).find_map(|name| {
        match api.object("/persistentvolumeclaims", namespace, name) {
            None => Some(format!("persistentvolumeclaim \"{name}\" not found")),
            Some(claim) if claim["status"]["phase"] != "Bound" => {
                Some("pod has unbound immediate PersistentVolumeClaims".to_owned())
            }
            Some(_) => None,
        }
    })
}
